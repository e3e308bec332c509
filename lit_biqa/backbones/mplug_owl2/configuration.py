"""Configuration of mPLUG-Owl2, read from and written as the official ``config.json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from transformers import PreTrainedConfig

from lit_biqa.compat.transformers import CACHE_NAMES
from lit_biqa.types import InputError

# Where an image goes in a row of token ids, and what the loss leaves out, as the original has them.
IMAGE_TOKEN_INDEX = -200
IGNORE_INDEX = -100


@dataclass(frozen=True)
class VisionSettings:
    """Sizes of the vision tower, ``visual_config["visual_model"]`` in the official file."""

    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    image_size: int = 448
    patch_size: int = 14
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-6

    @property
    def grid(self) -> int:
        """Patches along each side of the image."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class AbstractorSettings:
    """Sizes of the visual abstractor, ``visual_config["visual_abstractor"]`` there."""

    hidden_size: int = 1024
    encoder_hidden_size: int = 1024
    num_learnable_queries: int = 64
    num_hidden_layers: int = 6
    num_attention_heads: int = 16
    intermediate_size: int = 2816
    layer_norm_eps: float = 1e-6
    grid_size: int = 32


# Parts of the original that only Owl2.1 or nobody uses. A checkpoint that asks for them would load
# and answer wrongly, so it is refused.
_REQUIRED = {"use_cls_token": True, "use_post_layernorm": True, "add_v2t_pos_emb": False}

_Settings = TypeVar("_Settings", VisionSettings, AbstractorSettings)


class MplugOwl2Config(PreTrainedConfig):  # type: ignore[misc]
    """Configuration of mPLUG-Owl2 with a LLaMA-2 decoder (Ye et al., arXiv 2311.04257).

    The fields are those of the official ``config.json``, flat for the decoder, with
    ``visual_config = {"visual_model": {...}, "visual_abstractor": {...}}``; what is left out takes
    the original code's defaults, and what is not known here is kept and written back.

    Raises:
        InputError: for sizes that do not fit each other, or a variant that is not built here.
    """

    model_type = "mplug_owl2"
    keys_to_ignore_at_inference = [*CACHE_NAMES]  # noqa: RUF012 - transformers reads it so

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] | None = None
    attention_bias: bool = False
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    tie_word_embeddings: bool = False
    visual_config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self, **kwargs: Any) -> None:
        """Fill what was left out, then refuse sizes that cannot work together."""
        super().__post_init__(**kwargs)
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        given = self.visual_config or {}
        self.visual_config = {
            **given,
            "visual_model": _completed(VisionSettings, given.get("visual_model")),
            "visual_abstractor": _completed(AbstractorSettings, given.get("visual_abstractor")),
        }
        self._check_decoder()
        self._check_visual()

    @property
    def vision(self) -> VisionSettings:
        """Sizes of the vision tower."""
        return _settings(VisionSettings, self.visual_config["visual_model"])

    @property
    def abstractor(self) -> AbstractorSettings:
        """Sizes of the visual abstractor."""
        return _settings(AbstractorSettings, self.visual_config["visual_abstractor"])

    @property
    def positions_per_image(self) -> int:
        """Number of decoder positions of one image: its queries and the end vector."""
        return self.abstractor.num_learnable_queries + 1

    def _check_decoder(self) -> None:
        if self.num_key_value_heads != self.num_attention_heads:
            raise _refused(
                f"num_key_value_heads is {self.num_key_value_heads} and num_attention_heads is "
                f"{self.num_attention_heads}; they must be equal, as the two copies of the key "
                "and value projections are square"
            )
        _check_heads("decoder", self.hidden_size, self.num_attention_heads)
        if self.hidden_size // self.num_attention_heads % 2:
            raise _refused("the decoder's head size is odd; rotary positions need an even one")
        if self.rope_scaling is not None:
            raise _refused(f"rope_scaling is {self.rope_scaling}; only null is supported")
        if self.tie_word_embeddings:
            raise _refused("tie_word_embeddings is true; only false is supported")

    def _check_visual(self) -> None:
        vision, abstractor = self.vision, self.abstractor
        if not vision.hidden_size == abstractor.hidden_size == abstractor.encoder_hidden_size:
            raise _refused(
                "visual_model.hidden_size, visual_abstractor.hidden_size and "
                f"visual_abstractor.encoder_hidden_size are {vision.hidden_size}, "
                f"{abstractor.hidden_size} and {abstractor.encoder_hidden_size}; they must be equal"
            )
        if vision.image_size % vision.patch_size or abstractor.grid_size != vision.grid:
            raise _refused(
                f"visual_abstractor.grid_size is {abstractor.grid_size}, but an image of "
                f"{vision.image_size} in patches of {vision.patch_size} has "
                f"{vision.image_size / vision.patch_size:g} per side; they must be equal and whole"
            )
        if abstractor.hidden_size % 4:
            raise _refused(f"visual_abstractor.hidden_size {abstractor.hidden_size} is no fourfold")
        _check_heads("visual_model", vision.hidden_size, vision.num_attention_heads)
        _check_heads("visual_abstractor", abstractor.hidden_size, abstractor.num_attention_heads)


def _completed(settings: type[_Settings], given: dict[str, Any] | None) -> dict[str, Any]:
    """Defaults under what was given; the original reads a grid of 0 or null as its default."""
    merged = {**asdict(settings()), **(given or {})}
    if "grid_size" in merged:
        merged["grid_size"] = merged["grid_size"] or AbstractorSettings.grid_size
    for name, needed in _REQUIRED.items():
        if merged.get(name, needed) != needed:
            raise _refused(f"{name} is {merged[name]}; only {needed} is supported")
    for name, value in merged.items():
        if "dropout" in name and value:
            raise _refused(f"visual_config has {name} = {value}; only 0 is supported")
    return merged


def _settings(settings: type[_Settings], values: dict[str, Any]) -> _Settings:
    return settings(**{known.name: values[known.name] for known in fields(settings)})


def _check_heads(part: str, width: int, heads: int) -> None:
    if width % heads:
        raise _refused(f"{part}: hidden_size {width} does not divide by its {heads} heads")


def _refused(what: str) -> InputError:
    return InputError(f"mPLUG-Owl2 configuration: {what}. Correct config.json.")
