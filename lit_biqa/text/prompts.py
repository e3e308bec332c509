"""Everything that models are asked, one constant or small function for each prompt.

Source tags: *verbatim* marks wording that a paper or a released file gives; *ours* marks wording
of our own, where the source gives the sense or nothing. `lit_biqa.types.ask` puts the image before
the text, as Q-Insight does in training; its demos put it behind, which `IMAGE` at the end of a
question does.
"""

from __future__ import annotations

from lit_biqa.types import IMAGE

# Reinforcement learning on scores ---------------------------------------------------------------

# Verbatim: Reasoning as Representation, table A.4; Q-Insight (Li et al., 2025).
R1_SYSTEM = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant "
    "solves it. The assistant first thinks about the reasoning process in the mind and then "
    "provides the user with the answer. The reasoning process and answer are enclosed within "
    "<think> </think> and <answer> </answer> tags, respectively, i.e., <think> reasoning process "
    "here </think><answer> answer here </answer>"
)
_SCALE = (
    "The rating should be a float between 1 and 5, rounded to two decimal places, with 1 "
    "representing very poor quality and 5 representing excellent quality."
)
_KEYS = 'final answer in JSON format with the following keys: "rating": The score.'

# Verbatim: Reasoning as Representation, table A.4; Q-Insight.
SCORE = f"What is your overall rating on the quality of this picture? {_SCALE} Return the {_KEYS}"

# Verbatim: Q-Insight, the degradation task of its multi-task training.
DEGRADATION = (
    "Analyze the given image and determine if it contains any of the following distortions: "
    '"noise", "compression", "blur", or "darken". If a distortion is present, classify its '
    'severity as "slight", "moderate", "obvious", "serious", or "catastrophic". Return the result '
    'in JSON format with the following keys: "distortion_class": The detected distortion (or '
    '"null" if none). and "severity": The severity level (or "null" if none).'
)

# Ours: Reasoning as Representation, table A.1, trains without reasoning and prints no prompt.
ANSWER_ONLY_SYSTEM = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant "
    "answers it at once, without any reasoning. The answer is enclosed within <answer> </answer> "
    "tags, i.e., <answer> answer here </answer>"
)

# Verbatim: VisualQuality-R1 (Wu et al., 2025), table 1; it has no system prompt and no JSON.
_VISUAL_QUALITY = (
    "You are doing the image quality assessment task. Here is the question: What is your overall "
    f"rating on the quality of this picture? {_SCALE}"
)
VISUAL_QUALITY_R1 = (
    f"{_VISUAL_QUALITY} First output the thinking process in <think> </think> tags and then output "
    "the final answer with only one score in <answer> </answer> tags."
)
VISUAL_QUALITY_R1_NON_THINKING = (
    f"{_VISUAL_QUALITY} Please only output the final answer with only one score in <answer> "
    "</answer> tags."
)

# Pure textual reasoning: the paradigms ----------------------------------------------------------

# Ours, after the words that the released code's prompt is known for: a detailed, objective
# description, "sufficient to judge overall image quality".
CHAIN_OF_THOUGHT_SYSTEM = (
    "A conversation between User and Assistant. The user asks for a description of an image, and "
    "the Assistant gives it, enclosed within <caption> </caption> tags, i.e., <caption> "
    "description here </caption>"
)
CHAIN_OF_THOUGHT = (
    "Describe this picture in detail and objectively. The description must be sufficient to judge "
    "overall image quality by someone who cannot see the picture."
)

# Ours: the released code's training prompt spells its tag wrongly (<catption>). The last sentence
# is against ratings that leak into captions.
SELF_CONSISTENCY_SYSTEM = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant "
    "solves it. The assistant first describes what is visible in the image, then thinks about the "
    "reasoning process in the mind and then provides the user with the answer. The description, "
    "reasoning process and answer are enclosed within <caption> </caption>, <think> </think> and "
    "<answer> </answer> tags, respectively, i.e., <caption> description here </caption><think> "
    "reasoning process here </think><answer> answer here </answer>. The description mentions no "
    "numerical score."
)

# Verbatim: the prompts that all models of the paper are tested with, as its released
# conversations show them, slips of the pen included.
TEST_SYSTEM = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant "
    "solves it. The assistant follows a human thinking logics.First describes the low-level "
    "visual contents of the image, mainly focus on three aspects including the main subject of "
    "this image (why human takes this picture), the advantage of this image (what makes this "
    "image looks good) and the flaws (what makes the image looks bad). Second  thinks about the "
    "reasoning process in the mind and then provides the user with the answer. The description, "
    "reasoning and answer are enclosed within <caption></caption> <think> </think> and <answer> "
    "</answer> tags, respectively, i.e., <caption>description here</caption><think> reasoning "
    "process here </think><answer> answer here </answer>."
)
TEST_SCORE = f"What is your overall rating on the quality of this picture? {_SCALE} The {_KEYS}"

# The paper of human-aligned reasoning publishes no template; this one, of the same authors, asks
# for what its annotators wrote about: the subject, what is good and what is bad.
HUMAN_ALIGNED_SYSTEM = TEST_SYSTEM


def second_pass(description: str) -> str:
    """The question that is answered without seeing the image; its system prompt is `R1_SYSTEM`.

    Args:
        description: what the first pass wrote; a stray placeholder of an image is taken out.

    Source: the released conversations of *Understanding Pure Textual Reasoning*, verbatim.
    """
    seen = description.replace(IMAGE, "")
    return (
        f"If there is an image described as {seen}, what is your overall rating on the quality of "
        f"this picture? {_SCALE} The {_KEYS}"
    )


def explain(mos: float | None) -> str:
    """The first pass of the Autoencoder: why has this image this score?

    Args:
        mos: mean opinion score on [1, 5], all its digits as Python prints them; ``None`` masks it
            as "some score", as in a test.

    Source: *Understanding Pure Textual Reasoning*, section III-D, and its released code, verbatim.
    """
    score = "some score" if mos is None else repr(float(mos))
    return (
        "With 1 representing very poor quality and 5 representing excellent quality, please "
        f"explain why this image is rated as {score}. Do not mention this rating score in your "
        "answer."
    )


# Supervised fine-tuning -------------------------------------------------------------------------

# Verbatim: Reasoning as Representation, table A.4 (RACT's cross-domain tuning on texts).
RACT = "What is your overall assessment of the quality of this picture?"

# Verbatim: Q-Instruct (Wu et al., 2024), figure 4, and its evaluation, which reads the next word.
PATHWAY = (
    "Describe the image's low-level appearances, and conclude with an overall quality evaluation."
)
RATE = "Rate the quality of the image."

# Ours: Building Reasonable Inference, section 3.4, gives the two stages and no prompt.
DESCRIBE = "Describe the image's low-level appearances, without an overall quality evaluation."


def conclude(description: str) -> str:
    """The text-only question of the second stage: description in, quality word out. Ours.

    Args:
        description: what the first stage wrote; a stray placeholder of an image is taken out.
    """
    seen = description.replace(IMAGE, "")
    return f"An image is described as follows: {seen}\n{RATE}"


# The first is Q-Align's (Wu et al., 2024), verbatim, and the one to test with; it trains on
# paraphrases, and these are ours.
QALIGN_QUESTIONS = (
    "How would you rate the quality of this image?",
    "What would you say about the quality of this image?",
    "Please judge the quality of this image.",
    "How good is the quality of this picture?",
    "Which level of quality does this picture have?",
)

# Verbatim: Q-Align; the level word follows.
QUALITY_OPENING = "The quality of the image is"
