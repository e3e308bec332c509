"""Every readout is known by its bare name."""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module

import pytest

from lit_biqa import readouts
from lit_biqa.cli.main import main


def test_every_readout_of_the_room_is_exported() -> None:
    modules = [
        import_module(f"{readouts.__name__}.{module.name}")
        for module in pkgutil.iter_modules(readouts.__path__)
    ]
    concrete = {
        name
        for module in modules
        for name, found in inspect.getmembers(module, inspect.isclass)
        if issubclass(found, readouts.Readout) and not inspect.isabstract(found)
    }
    assert set(readouts.__all__) == {*concrete, "Readout", "Verdict"}
    assert {"Rated", "TwoPass", "OnePass", "LevelLogits"} <= concrete


@pytest.mark.parametrize("name", sorted(set(readouts.__all__) - {"Readout", "Verdict"}))
def test_a_bare_name_chooses_a_readout(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = ["fit", "--config", "configs/sft/small_conclude.yaml"]
    with pytest.raises(SystemExit) as ending:
        main([*recipe, "--model.readouts", f"[{name}]", "--print_config"])
    assert ending.value.code == 0
    assert f"class_path: lit_biqa.readouts.{name}\n" in capsys.readouterr().out
