"""Versions of libraries: which are known, and that no other one is let in."""

from __future__ import annotations

import pytest

from lit_biqa.compat import versions
from lit_biqa.types import InputError


@pytest.mark.parametrize("library", sorted(versions.CHECKED))
def test_the_installed_release_is_known(library: str) -> None:
    major, minor = versions.check(library)
    assert f"{major}.{minor}" in versions.CHECKED[library]


@pytest.mark.parametrize("library", sorted(versions.CHECKED))
def test_an_unknown_release_is_refused(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "version", lambda _: "99.1.0rc1")
    newest = versions.CHECKED[library][-1]
    with pytest.raises(InputError) as caught:
        versions.check(library)
    assert f"{library} 99.1.0rc1 is installed" in str(caught.value)
    assert f"pip install '{library}=={newest}.*'" in str(caught.value)
