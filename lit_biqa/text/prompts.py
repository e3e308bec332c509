"""Prompt templates, one constant or small function each.

Source tags: *verbatim* marks wording of a paper or a released file; *ours* marks wording of our
own, where the source gives only the sense or nothing. `lit_biqa.types.ask` puts the image before
the text, as the released codes of Q-Insight and *Understanding Pure Textual Reasoning* do in
training; their tests put the image last, which `IMAGE` at the end of a question does.
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

# Verbatim: VisualQuality-R1 (Wu et al., 2025), table 1; without system prompt and JSON.
VISUAL_QUALITY_R1 = (
    "You are doing the image quality assessment task. Here is the question: What is your overall "
    f"rating on the quality of this picture? {_SCALE} First output the thinking process in <think> "
    "</think> tags and then output the final answer with only one score in <answer> </answer> tags."
)

# Pure textual reasoning: the paradigms ----------------------------------------------------------

# Verbatim: the first pass in the paper's released code, slips of the pen included. Its second pass
# holds no description, so that `second_pass` asks in its place.
CHAIN_OF_THOUGHT_SYSTEM = (
    "The assistant is a professional image-quality analyst. Given a single image, the assistant "
    "considers a concise yet specific visual description.The visual caption and thinking process "
    "are enclosed within <caption> </caption>, i.e., <caption> visual caption "
    "description</caption> "
)
CHAIN_OF_THOUGHT = (
    "Please give a detailed, objective description that is sufficient to judge overall image "
    "quality. Describe only what you can visually observe in this image. "
)

# Verbatim, slips of the pen included, but for "caption", which the paper's released code spells
# "catption", in the tag too: its tests ask for <caption>.
SELF_CONSISTENCY_SYSTEM = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant "
    "solves it. The assistant first describes the important and suffient visual annotation of the "
    "image quality. Focus exclusively on the concrete visual elements, second  thinks about the "
    "reasoning process in the mind and then provides the user with the answer. The  caption, "
    "reasoning process and answer are enclosed within <caption> </caption>, <think> </think> and "
    "<answer> </answer> tags, respectively, i.e., <caption> visual caption </caption><think> "
    "reasoning process here </think><answer> answer here </answer>"
)

# Ours: the last sentence discourages ratings in captions.
SELF_CONSISTENCY_NO_NUMBERS_SYSTEM = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant "
    "solves it. The assistant first describes what is visible in the image, then thinks about the "
    "reasoning process in the mind and then provides the user with the answer. The description, "
    "reasoning process and answer are enclosed within <caption> </caption>, <think> </think> and "
    "<answer> </answer> tags, respectively, i.e., <caption> description here </caption><think> "
    "reasoning process here </think><answer> answer here </answer>. The description mentions no "
    "numerical score."
)

# Verbatim: the released code of the paper, in the Autoencoder's first pass.
AUTOENCODER_SYSTEM = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant "
    "solves it. The assistant follows a human thinking logics."
)

# Verbatim, slips of the pen included: the prompts of the paper's tests for all its models, as its
# released conversations show them.
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

# All test scripts of the released code put the image after the text; its training puts it before.
TEST_QUESTION = f"{TEST_SCORE}{IMAGE}"

# The paper on human-aligned reasoning publishes no template. This one, by the same authors, asks
# for the topics of its annotators: the subject, what is good and what is bad.
HUMAN_ALIGNED_SYSTEM = TEST_SYSTEM


def second_pass(description: str) -> str:
    """Question of the text-only pass, which sees no image; its system prompt is `R1_SYSTEM`.

    Args:
        description: text of the first pass; a stray image placeholder is removed.

    Source: the released conversations of *Understanding Pure Textual Reasoning*, verbatim.
    """
    visible = description.replace(IMAGE, "")
    return (
        f"If there is an image described as {visible}, what is your overall rating on the quality "
        f"of this picture? {_SCALE} The {_KEYS}"
    )


def explain(mos: float | None) -> str:
    """Question of the Autoencoder's first pass: why does this image have this score?

    Args:
        mos: mean opinion score on [1, 5], with all digits as Python prints them; ``None`` writes
            "some score", as in a test.

    Source: *Understanding Pure Textual Reasoning*, section III-D, and its released code, verbatim,
    with the space that it begins with.
    """
    score = "some score" if mos is None else repr(float(mos))
    return (
        " With 1 representing very poor quality and 5 representing excellent quality, please "
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
    """Text-only question of the second stage: description in, quality word out. Ours.

    Args:
        description: text of the first stage; a stray image placeholder is removed.
    """
    visible = description.replace(IMAGE, "")
    return f"An image is described as follows: {visible}\n{RATE}"


# Verbatim: the questions of Q-Align (Wu et al., 2024), as DeQA-Score's training records have them.
# Both codes train with the image before the question, and test with it behind the first one.
_QALIGN = (
    "How would you rate the quality of this image?",
    "Can you rate the quality of this picture?",
    "What is your quality rating for this image?",
    "What's your opinion on the quality of this picture?",
    "Rate the quality of this image.",
    "How do you assess the quality of this image?",
    "Could you evaluate the quality of this image?",
    "What do you think about the quality of this image?",
    "How would you judge the quality of this image?",
)
QALIGN_QUESTIONS = tuple(f"{IMAGE}\n{question}" for question in _QALIGN)
QALIGN_TEST_QUESTION = f"{_QALIGN[0]}\n{IMAGE}"

# Verbatim: Q-Align; the level word follows.
QUALITY_OPENING = "The quality of the image is"
