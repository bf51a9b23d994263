"""`fgan status RUN`."""

from dataclasses import dataclass
from typing import Annotated, Any

from tyro.conf import Positional, arg

from fgan.cli.command import Base, show, show_json

COMMANDS = {"status": "Say how a run or a sweep stands: its state, its step, its last numbers, its warnings."}


@dataclass(frozen=True, kw_only=True)
class Command(Base):
    run_directory: Annotated[Positional[str], arg(metavar="RUN")]
    """The directory of a run or a sweep."""
    json: bool = False
    """Print one JSON object in place of the lines."""

    def __call__(self) -> None:
        from fgan.run.checkpoint import Checkpoints
        from fgan.run.directory import RunDirectory

        run = RunDirectory.find(self.run_directory)
        status = run.last_status or {"state": "not begun", "step": 0}
        records = run.records()
        last: dict[str, Any] = next((r for r in reversed(records) if "scores" not in r), {})
        saved = Checkpoints(run.path / "checkpoints", fingerprint="", writes=False).steps()
        if self.json:
            show_json({"run": str(run.path), **status, "saved": saved, "last": last})
            return
        facts = {"run": run.path, "state": status["state"], "step": status["step"]}
        facts |= {name: status[name] for name in ("reason", "devices", "part") if status.get(name)}
        facts |= {"saved": f"step {max(saved)}"} if saved else {}
        for name, value in facts.items():
            show(f"{name:<11}{value}")
        for name, values in last.items():
            if isinstance(values, list):
                show(f"{name:<17}{'  '.join('–' if v is None else f'{v:.4g}' for v in values)}")
        for warning in status.get("warnings", ()):
            show(f"warning    {warning}")
