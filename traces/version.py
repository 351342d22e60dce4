"""The version of this checkout, or of the installed package."""

from __future__ import annotations

from pathlib import Path


def version() -> str:
    """As ``pyproject.toml`` beside the packages says, else as the installed package does."""
    project = Path(__file__).resolve().parents[1] / "pyproject.toml"
    if project.is_file():
        import tomllib

        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
    from importlib import metadata

    return metadata.version("aisp-trace")
