"""Reasoning texts about synthetic images: caption, distortion, effect and verdict in words.

They stand in for the texts that a reasoning model writes about an image before it rates it: a short
caption, the distortion in words, its effect, a verdict in words. None holds a number. The wording
is this package's own.
"""

from __future__ import annotations

from collections.abc import Sequence

from numpy.random import Generator

from lit_biqa.data.pseudo_mos import Content

PRISTINE = "pristine"

# {how} takes a word of HOW.
FAULTS: dict[str, tuple[str, ...]] = {
    PRISTINE: (
        "Edges are crisp and textures are clear down to the smallest structure.",
        "Every contour is in focus, and smooth areas are clean.",
        "Fine structure is rendered faithfully, with neither grain nor halos.",
    ),
    "gaussian_blur": (
        "The whole frame is {how} out of focus.",
        "Edges are {how} soft and textures run together.",
        "It is {how} blurred, so fine structure is missing.",
    ),
    "motion_blur": (
        "Everything is {how} smeared in one direction, as by a shaking camera.",
        "Movement leaves the contours {how} streaked.",
        "The picture is {how} dragged along a line, and edges double.",
    ),
    "white_noise": (
        "Plain areas are {how} grainy with random coloured dots.",
        "Sensor noise makes the surfaces {how} rough.",
        "The picture is {how} noisy all over.",
    ),
    "impulse_noise": (
        "Black and white specks leave the picture {how} dotted.",
        "It is {how} sprinkled with salt and pepper.",
        "Stray dark and bright pixels make it {how} dirty.",
    ),
    "jpeg": (
        "Compression leaves it {how} blocky, with ringing beside the edges.",
        "Smooth areas are {how} broken into square blocks.",
        "Block borders and mosquito noise make surfaces {how} uneven.",
    ),
    "jpeg2000": (
        "Details are {how} smudged, and ripples surround the contours.",
        "Wavelet compression leaves textures {how} washed into patches.",
        "Surfaces are {how} smeared, with wavy halos along edges.",
    ),
    "contrast_loss": (
        "The tones are {how} flat, without deep blacks or clean whites.",
        "A veil of grey makes the scene {how} hazy.",
        "Contrast is weak, which leaves everything {how} faded.",
    ),
    "over_saturation": (
        "The colours are {how} garish.",
        "Hues are {how} exaggerated and lose their shades.",
        "Saturation is pushed, so that surfaces are {how} gaudy.",
    ),
    "colour_shift": (
        "A colour cast leaves everything {how} tinted.",
        "The white balance is {how} off.",
        "Hues are {how} wrong, as under coloured light.",
    ),
    "banding": (
        "Gradients are {how} broken into steps.",
        "Smooth shades are {how} banded, with false contours.",
        "Too few tones leave it {how} posterised.",
    ),
    "pixelation": (
        "Contours are {how} jagged, like stairs.",
        "It is {how} pixelated, as if enlarged from a tiny picture.",
        "Coarse square pixels make it {how} rough.",
    ),
    "darken": (
        "The scene is {how} underexposed.",
        "It is {how} too dark, and shadows close up.",
        "Dim light leaves the darker parts {how} murky.",
    ),
    "brighten": (
        "The scene is {how} overexposed.",
        "It is {how} too bright, and highlights burn out.",
        "Glaring light leaves the bright parts {how} bleached.",
    ),
}

# From the mildest to the worst, one pair for each of the five levels of the rating scale.
HOW = (
    ("barely", "hardly"),
    ("slightly", "mildly"),
    ("noticeably", "clearly"),
    ("strongly", "heavily"),
    ("extremely", "severely"),
)
EFFECTS = (
    ("One has to look closely to notice any flaw.", "Nothing in it disturbs the eye."),
    ("The flaw is small and the content stays easy to read.", "It distracts only a little."),
    ("It takes away from the details.", "The fault is plain, though the content can be followed."),
    ("It hides much of the content.", "The fault dominates and is tiring to look at."),
    ("Little of the content is left.", "The fault ruins the picture."),
)
VERDICTS = (
    ("Overall, the quality is excellent.", "This is a picture of very high quality."),
    ("Overall, the quality is good.", "All in all it is a good picture with a minor weakness."),
    ("Overall, the quality is fair.", "All in all it is of middling quality."),
    ("Overall, the quality is poor.", "All in all it is of low quality."),
    ("Overall, the quality is bad.", "This is a picture of very low quality."),
)

CAPTIONS = (
    "The picture shows a {detail} scene.",
    "A {detail} composition.",
    "This is a {detail} view.",
    "Many shapes form a {detail} scene.",
    "The image holds {detail} content.",
    "One sees a {detail} arrangement of surfaces.",
)


def reasonings(
    kind: str, quality: float, content: Content, count: int, rng: Generator
) -> tuple[str, ...]:
    """Texts about one image; up to the number of captions, no two begin alike.

    Args:
        kind: type of distortion, or ``PRISTINE``.
        quality: its quality on [1, 5] before raters vote; the words follow it.
        content: properties of its pristine source.
        count: number of texts to draw; a text that is drawn twice is given once.
        rng: generator that chooses the phrases.
    """
    captions = rng.permutation(len(CAPTIONS))
    drawn = (
        _reasoning(kind, quality, content, CAPTIONS[captions[i % len(CAPTIONS)]], rng)
        for i in range(count)
    )
    return tuple(dict.fromkeys(drawn))


def _reasoning(kind: str, quality: float, content: Content, caption: str, rng: Generator) -> str:
    degree = min(int((5 - quality) / 0.8), len(HOW) - 1)
    detail = ("plain", "varied", "busy")[min(int(content.detail * 3), 2)]
    sentences = [
        caption.format(detail=detail),
        _pick(FAULTS[kind], rng).format(how=_pick(HOW[degree], rng)),
        _pick(EFFECTS[degree], rng),
        _pick(VERDICTS[degree], rng),
    ]
    return " ".join(sentences)


def _pick(choices: Sequence[str], rng: Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
