"""The packages that setup.cfg names are those of the tree."""

from __future__ import annotations

import configparser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_every_package_is_in_the_wheel() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    listed = settings["options"]["packages"].split()
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "lit_biqa").rglob("*.py")}
    assert set(listed) == {".".join(folder.parts) for folder in folders} | {"lit_biqa.recipes"}
    assert listed == sorted(listed)
    assert all((ROOT / folder / "__init__.py").is_file() for folder in folders)


def test_every_recipe_is_in_the_wheel() -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    assert settings["options"]["package_dir"].split("=")[1].strip() == "configs"
    patterns = settings["options.package_data"]["lit_biqa.recipes"].replace(",", " ").split()
    packed = {path for pattern in patterns for path in (ROOT / "configs").glob(pattern)}
    shipped = {path for kind in ("yaml", "csv") for path in (ROOT / "configs").rglob(f"*.{kind}")}
    assert packed == shipped
