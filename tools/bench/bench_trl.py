"""TRL's way of doing steps of GRPO; ours, and what both share, is in `bench_steps`."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

from bench_fits import LIKE_OURS, Precision, Span, Within, quietly
from bench_steps import QUESTION, Endless, EndlessChat, Even, Steps, trained

from lit_biqa.backbones.precision import chosen


class Theirs:
    """TRL's GRPOTrainer with a model that it reads from a folder, as it reads the reference.

    Args:
        backbone: another of the same first weights. It is written to the folder and gives its
            model up, so that a device does not hold it twice.
        steps: what is done.
        folder: where the model is written, and TRL may write.
        device: as torch names it.
        precision: as Lightning names it.

    Attributes:
        first: the weights that are trained, as they were.
        trained: the same after the last fit.
    """

    def __init__(
        self,
        backbone: Endless | EndlessChat,
        steps: Steps,
        folder: Path,
        device: str = "cpu",
        precision: Precision = "32-true",
    ) -> None:
        backbone.load()
        self.backbone, self.steps, self.folder = backbone, steps, folder
        self.device, self.precision = device, precision
        self.first = self.trained = trained(backbone)
        self.weights = folder / "weights"
        backbone.save(self.weights, backbone.state())
        self.processor, self.updated = processor_of(backbone), updated(backbone)
        del backbone.model

    def fit(self, epochs: int, span: Span) -> Any:
        """Train; the last step lies within the span. Gives the trainer."""
        from trl.trainer import utils

        # On a CPU it sets aside logits of 32,768 tokens for any vocabulary. What it does not fill
        # takes no memory, yet would be counted.
        name, words = "_CHUNKED_LOGPROB_CHUNK_SIZE", len(self.backbone.tokenizer)
        tile = getattr(utils, name)
        tile = min(tile, words) if self.device == "cpu" else tile
        with quietly(), patch.object(utils, name, tile):
            trainer = self.trainer(epochs, span)
            trainer.train()
        self.trained = trained(trainer.model)
        return trainer

    def trainer(self, epochs: int, span: Span) -> Any:
        """One with a new model and a new optimizer."""
        from trl import GRPOTrainer

        made = GRPOTrainer(
            str(self.weights),
            [self.reward],
            self.settings(epochs),
            self.rows(),
            processing_class=self.processor,
            callbacks=[Within(epochs, span)],
            peft_config=self.lora(),
            rollout_func=self.recite if self.steps.recited else None,
        )
        for own, first in zip(trained(made.model), self.first, strict=True):
            own.data.copy_(first)  # LoRA's are drawn at random
        return made

    def settings(self, epochs: int) -> Any:
        """Those of our objective and of like work; what is not named is TRL's default."""
        from trl import GRPOConfig

        completions = len(self.steps.images) * self.steps.group
        portion = self.steps.rows_at_once or completions
        return GRPOConfig(
            **LIKE_OURS,
            use_cpu=self.device == "cpu",
            output_dir=str(self.folder),
            bf16=self.precision == "bf16-mixed",
            gradient_checkpointing=False,
            model_init_kwargs={
                "dtype": chosen(self.backbone.tuning.precision),
                "attn_implementation": "sdpa",
            },
            generation_kwargs={"min_new_tokens": self.steps.budget},
            per_device_train_batch_size=portion,
            gradient_accumulation_steps=completions // portion,
            num_generations=self.steps.group,
            max_completion_length=self.steps.budget,
            num_train_epochs=epochs,
            shuffle_dataset=False,
            temperature=1.0,
            top_k=50,
            loss_type="grpo",
            scale_rewards="group",
            beta=self.steps.beta,
            use_bias_correction_kl=False,
            mask_truncated_completions=False,
            optim=self.steps.optimizer,
            learning_rate=self.steps.lr,
        )

    def rows(self) -> Any:
        """The question about each image, which is read when it is asked for; or texts alone."""
        import datasets

        if self.steps.questions:
            texts = ([{"type": "text", "text": text}] for text in self.steps.questions)
            prompts = [[{"role": "user", "content": parts}] for parts in texts]
            return datasets.Dataset.from_dict({"prompt": prompts})
        asked = [{"role": "user", "content": QUESTION}]
        images = [str(file) for file in self.steps.images]
        rows = datasets.Dataset.from_dict({"prompt": [asked] * len(images), "image": images})
        return rows.cast_column("image", datasets.Image())

    def lora(self) -> Any:
        """As `Tuning` sets it; ``None`` for full tuning."""
        from peft import LoraConfig

        tuning = self.backbone.tuning
        if tuning.how == "full":
            return None
        return LoraConfig(r=tuning.rank, lora_alpha=tuning.alpha, target_modules=self.updated)

    def reward(self, completion_ids: list[list[int]], **_: Any) -> list[float]:
        """See `Even`."""
        return Even(self.steps.budget).of(completion_ids)

    def recite(self, asked: list[Any], trainer: Any) -> dict[str, Any]:
        """Given completions in the place of those that would be drawn."""
        read = self.processor.apply_chat_template(
            asked, add_generation_prompt=True, tokenize=True, return_dict=True
        )
        images = range(len(self.steps.images))
        told = [ids for image in images for ids in self.steps.told(image)]
        return {"prompt_ids": read["input_ids"], "completion_ids": told, "logprobs": None}


def updated(backbone: Endless | EndlessChat) -> list[str]:
    """Names of the layers with LoRA's updates, in the model that TRL reads."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    modules = backbone.model.named_modules()
    names = (name for name, module in modules if isinstance(module, BaseTunerLayer))
    # The language model of a `TimmChat` is the whole model that TRL reads.
    return [name.removeprefix("language.") for name in names]


def processor_of(backbone: Endless | EndlessChat) -> Any:
    """What TRL reads prompts with: the tokenizer, and with it the image settings of Qwen2.5-VL."""
    if isinstance(backbone, EndlessChat):
        return backbone.tokenizer
    from transformers import Qwen2_5_VLProcessor, Qwen2VLVideoProcessor

    images, tokenizer = backbone.image_processor, backbone.tokenizer
    template = tokenizer.chat_template
    return Qwen2_5_VLProcessor(images, tokenizer, Qwen2VLVideoProcessor(), chat_template=template)
