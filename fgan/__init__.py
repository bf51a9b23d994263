"""f-GANs: generators trained against critics under any f-divergence. Run `fgan --help`, or import the modules."""

from importlib import import_module

_HOME = {
    "FGAN": "models.gan",
    "GANState": "models.gan",
    "Config": "config.schema",
    "ConfigError": "config.fields",
    "load": "config.toml",
    "train": "library",
    "Trained": "library",
    "read_metrics": "library",
}

__version__ = "0.1.0"
__all__ = sorted([*_HOME, "__version__"])  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str):  # Any; but typing takes longer to import than all that `__main__` needs to heed signals
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
