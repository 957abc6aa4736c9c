"""`lab check FILE --model …`: is a history of any harness linearizable? What it prints, writes and answers.

Errors of the user (a wrong option, a damaged history, a broken model class) are one sentence and exit code 2.
"""

import importlib
import json
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checkers.api import (
    Budget,
    Decision,
    FormatError,
    History,
    HistoryError,
    Minimal,
    Operation,
    check,
    minimal,
    witness_operations,
)
from checkers.linearizability import picture
from checkers.linearizability.decision import DEFAULT
from checkers.linearizability.models import NAMES
from checkers.linearizability.subhistory import linearization_rows, lines, write_lines
from checkers.verdict import Validity
from lab.errors import VERDICT_EXIT, ExitCode, PlanError
from lab.planfile import nearest

WITNESS_SHOWN = 12
CONFIGURATIONS_SHOWN = 3
DRAWN_MAX = 24
LAB_NOTE = (
    "judged as one strict object a queue, whatever the configuration promises; whether promises were kept, faults were "
    "proven and enough was done is judged by `lab check` without --model"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOptions:
    """What `lab check` was told, as it was typed."""

    model: str
    init: str | None = None
    null_read: str = "observed"
    delivery: str = "exactly-once"
    format: str | None = None
    failed_cas: str | None = None
    unknown_fields: bool = False
    minimize: bool = False
    picture: Path | None = None
    linearization: Path | None = None
    budget: tuple[str, ...] = ()
    engine: str = "auto"


@dataclass(slots=True)
class _Found:
    """Everything there is to print."""

    history: History
    decision: Decision
    small: Minimal | None = None
    small_decision: Decision | None = None
    small_path: Path | None = None
    ordered: bool = False


def check_model(path: Path, options: CheckOptions, *, as_json: bool) -> tuple[ExitCode, str]:
    """Judge a file; return the exit code and the text for stdout. Raises PlanError for every mistake of the user."""
    model = load_model(options.model)
    own = not isinstance(model, str)
    judging: dict[str, Any] = {
        "init": _json(options.init), "null_read": options.null_read, "budget": parse_budget(options.budget),
        "engine": options.engine, "delivery": options.delivery,
    }  # fmt: skip
    with _told(path, options.model if own else None):
        history = History.read(
            path,
            model,
            format=options.format,  # type: ignore[arg-type]
            failed_cas=options.failed_cas,  # type: ignore[arg-type]
            unknown_fields=options.unknown_fields,
        )
        found = _Found(history, check(history, model, **judging))
        invalid = found.decision.validity is Validity.INVALID
        if invalid and options.minimize:
            found.small = minimal(history, model, decision=found.decision, **judging)
            found.small_decision = check(found.small.operations, model, **judging)
            found.small_path = Path(f"{_stem(path)}.minimal.jsonl")
            _write(found.small_path, lines(found.small.operations, own_model=own))
        if invalid and options.picture is not None:
            _write_text(options.picture, _svg(path, found))
        order = found.decision.linearization() if options.linearization is not None else None
        if order is not None and options.linearization is not None:
            _write(options.linearization, linearization_rows(order, found.decision.operations.operation))
            found.ordered = True
        code = VERDICT_EXIT[found.decision.verdict]
        text = _json_text(path, options, found) if as_json else _text(path, options, found)
    return code, text


def load_model(name: str) -> Any:
    """Return a built-in model's name, or an object of the class that `module:Class` names. Raises PlanError.

    The module is looked for in the current folder and wherever Python looks.
    """
    if name in NAMES:
        return name
    module_name, colon, class_name = name.partition(":")
    if not colon:
        raise PlanError(f"unknown model {name!r}{nearest(name, list(NAMES))} (a class of your own is module:Class)")
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", module_name) or not class_name.isidentifier():
        raise PlanError(f"--model {name}: write module:Class, for example mymodels:Counter")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name.split(".")[0] and error.name != module_name:
            raise PlanError(f"--model {name}: {module_name} imports {error.name}, which is not there") from None
        raise PlanError(
            f"--model {name}: no module {module_name} in {here} or on PYTHONPATH; run lab where {module_name}.py lies"
        ) from None
    except Exception as error:
        raise PlanError(f"--model {name}: importing {module_name} failed: {_place(error)}") from None
    found = getattr(module, class_name, None)
    if found is None:
        classes = [word for word, one in vars(module).items() if isinstance(one, type)]
        raise PlanError(f"--model {name}: {module_name} has no {class_name}{nearest(class_name, classes)}")
    try:
        model = found() if isinstance(found, type) else found
    except Exception as error:
        raise PlanError(f"--model {name}: {class_name}() failed: {_place(error)}") from None
    missing = [method for method in ("init", "step") if not callable(getattr(model, method, None))]
    if missing:
        raise PlanError(
            f"--model {name}: {class_name} has no {' and no '.join(missing)}; a model has init() and step()"
        )
    return model


_UNITS = {"ms": ("wall_ms", 1), "s": ("wall_ms", 1000), "min": ("wall_ms", 60_000), "mb": ("memory_mb", 1)}
_UNITS |= {"gb": ("memory_mb", 1000), "nodes": ("nodes", 1)}


def parse_budget(texts: tuple[str, ...]) -> Budget:
    """Return the budget of texts like `30s`, `2GB`, `1000000nodes`, or `none` for no limit. Raises PlanError."""
    limits: dict[str, int | None] = {}
    for text in texts:
        if text.lower() == "none":
            limits |= {"wall_ms": None, "memory_mb": None, "nodes": None}
            continue
        found = re.fullmatch(r"(\d{1,12})\s*([a-zA-Z]+)", text)
        if found is None or found[2].lower() not in _UNITS:
            raise PlanError(
                f"--budget {text!r}: write a time, a size or a number of nodes: 30s, 2GB, 1000000nodes, none"
            )
        name, factor = _UNITS[found[2].lower()]
        limits[name] = int(found[1]) * factor
    return Budget(**limits)


def _json(text: str | None) -> Any:
    if text is None:
        return DEFAULT
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PlanError(
            f"--init {text[:60]!r} is not JSON ({error}); a string needs its quotes: --init '\"a\"'"
        ) from None


@contextmanager
def _told(path: Path, own_model: str | None) -> Iterator[None]:
    """Turn what a user can cause into one sentence."""
    try:
        yield
    except (FormatError, HistoryError) as error:
        text = str(error)
        raise PlanError(text if text.startswith(str(path)) else f"{path}: {text}") from None
    except OSError as error:
        raise PlanError(f"cannot read history {path}: {error.strerror or error}") from None
    except PlanError:
        raise
    except RecursionError as error:
        if own_model is not None and _in_users_code(error, own_model):
            raise PlanError(f"--model {own_model} failed: {_place(error)}") from None
        raise PlanError(f"{path}: a value is nested too deeply to be compared") from None
    except Exception as error:
        if own_model is None or not _in_users_code(error, own_model):
            raise
        raise PlanError(f"--model {own_model} failed: {_place(error)}") from None


def _in_users_code(error: BaseException, own_model: str) -> bool:
    module = sys.modules.get(own_model.partition(":")[0])
    file = getattr(module, "__file__", None)
    return any(frame.filename == file for frame in traceback.extract_tb(error.__traceback__))


def _place(error: BaseException) -> str:
    """Say what went wrong in a user's code, and where."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" (line {frames[-1].lineno} of {frames[-1].filename})" if frames else ""
    if isinstance(error, SyntaxError):
        where = f" (line {error.lineno} of {error.filename})"
    return picture.clean(f"{type(error).__name__}: {error}{where}", 400)


def _stem(path: Path) -> str:
    name = path.name
    for ending in (".zst", ".zstd", ".gz"):
        name = name.removesuffix(ending)
    return name.rsplit(".", 1)[0] or name


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    try:
        write_lines(path, rows)
    except OSError as error:
        raise PlanError(f"cannot write {path}: {error.strerror}") from None


def _write_text(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise PlanError(f"cannot write {path}: {error.strerror}") from None


def _drawn(found: _Found) -> picture.Diagram:
    """The minimal history where there is one, else the witness and what is concurrent with it."""
    if found.small is not None:
        proof = witness_operations(found.small_decision) if found.small_decision is not None else []
        return picture.diagram(found.small.operations, proof)
    proof = witness_operations(found.decision)
    if len(proof) > picture.SHOWN_MAX:
        return picture.diagram(proof, proof)
    return picture.diagram(picture.around(found.history.operations, proof), proof)


def _svg(path: Path, found: _Found) -> str:
    witness = found.decision.witness
    title = f"{found.decision.model}: {'not linearizable' if witness is None else witness.anomaly}"
    of = f"{len(found.history)} operations of {path.name}"
    subtitle = of if found.small is None else f"{len(found.small.operations)} of {of}; they are invalid alone"
    return picture.svg(_drawn(found), title, subtitle)


def _outcomes(history: History) -> str:
    """Count operations and processes; a history that is columns only is not walked through for it."""
    if len(history) > 100_000:
        return f"{len(history)} operations"
    operations = list(history.operations)
    outcomes = [one.outcome for one in operations]
    processes = len({one.process for one in operations})
    unknown, failed = outcomes.count("info"), outcomes.count("fail")
    return f"{len(operations)} operations of {processes} processes, {unknown} of unknown outcome, {failed} failed"


def _row(one: Operation) -> str:
    process = picture.clean(str(one.process), 20)
    return f"  lines {picture.where(one):<13} process {process:<6} {picture.described(one)}"


def _rows(operations: list[Operation]) -> Iterator[str]:
    if len(operations) > WITNESS_SHOWN:
        yield f"  {len(operations) - WITNESS_SHOWN} earlier ones, then"
    yield from map(_row, operations[-WITNESS_SHOWN:])


def _text(path: Path, options: CheckOptions, found: _Found) -> str:
    decision = found.decision
    verdict = decision.verdict
    witness = decision.witness if verdict == "invalid" else None
    says = {"valid": "linearizable", "invalid": "not linearizable", "unknown": "not decided"}[verdict]
    head = f"{verdict}: {says} as {decision.model}"
    out = [head if witness is None or witness.anomaly in head else f"{head}: {witness.anomaly}"]
    if witness is not None:
        out.append(f"anomaly:  {picture.clean(witness.text, 2000)}")
        out.append("witness:")
        out.extend(_rows(witness_operations(decision)))
    out.extend(f"because:  {picture.clean(reason, 600)}" for reason in decision.reasons)
    if verdict == "invalid":
        out.extend(_prefix_text(decision))
        out.extend(_other_text(decision))
    out.append(f"history:  {path} ({found.history.format}): {_outcomes(found.history)}")
    if found.history.format == "lab":
        out.append(f"note:     {LAB_NOTE}")
    out.append(f"method:   {decision.method} ({decision.engine}): {decision.why}")
    if decision.coverage < 1.0:
        out.append(f"coverage: {decision.coverage:.1%} of the operations were decided")
    if found.small is not None:
        out.extend(_small_text(options, found, found.small))
    elif verdict == "invalid" and len((drawn := _drawn(found)).bars) <= DRAWN_MAX:
        out.append(picture.text(drawn))
    if verdict == "invalid" and options.picture is not None:
        out.append(f"picture:  {options.picture}")
    if verdict == "valid" and options.linearization is not None:
        written = "a legal order is in" if found.ordered else "no legal order was worked out for"
        out.append(f"order:    {written} {options.linearization}")
    return "\n".join(out)


def _prefix_text(decision: Decision) -> Iterator[str]:
    prefix = decision.prefix
    if prefix is None:
        return
    failing = decision.operations.operation(prefix.failing)
    if failing is not None:
        yield f"failing:  after {len(prefix.rows)} operations nothing fits any more; what could not be placed:"
        yield _row(failing)
    for configuration in prefix.configurations[:CONFIGURATIONS_SHOWN]:
        state, why = picture.clean(configuration.state, 200), picture.clean(configuration.why, 300)
        yield f"  state {state} after {len(configuration.linearized)} operations: {why}"


def _other_text(decision: Decision) -> Iterator[str]:
    counts = ", ".join(f"{count} × {name}" for name, count in decision.counts.items() if count)
    if sum(decision.counts.values()) > 1:
        yield f"counts:   {counts}"
    first = decision.witness
    shown = {first.anomaly} if first is not None else set()
    for witness in decision.witnesses:
        if witness.anomaly not in shown:
            shown.add(witness.anomaly)
            yield f"also:     {witness.anomaly}: {picture.clean(witness.text, 600)}"


def _small_text(options: CheckOptions, found: _Found, small: Minimal) -> Iterator[str]:
    yield f"minimal:  {len(small.operations)} of {small.of} operations are invalid alone (* are named as the proof)"
    yield picture.text(_drawn(found))
    for note in small.notes:
        yield f"note:     {note}"
    again = ["lab", "check", str(found.small_path), "--model", options.model]
    if options.init is not None:
        again += ["--init", options.init]
    if options.null_read != "observed":
        again += ["--null-read", options.null_read]
    if options.delivery != "exactly-once":
        again += ["--delivery", options.delivery]
    import shlex

    yield f"again:    {shlex.join(again)}"


def _operation_json(one: Operation) -> dict[str, Any]:
    return {
        "f": one.f, "process": one.process, "key": one.key, "argument": one.argument, "result": one.result,
        "outcome": one.outcome, "invoked_line": one.invoked_line, "returned_line": one.returned_line,
    }  # fmt: skip


def _json_text(path: Path, options: CheckOptions, found: _Found) -> str:
    decision = found.decision
    report: dict[str, Any] = {
        "valid": decision.validity.json, "verdict": decision.verdict, "model": decision.model, "history": str(path),
        "format": found.history.format, "operations": len(found.history), "method": decision.method,
        "why": decision.why, "engine": decision.engine, "counts": dict(decision.counts),
        "metrics": dict(decision.metrics), "reasons": list(decision.reasons), "coverage": decision.coverage,
        "nodes": decision.nodes, "anomaly": None, "text": None, "witness": [],
    }  # fmt: skip
    if found.history.format == "lab":
        report["note"] = LAB_NOTE
    if decision.validity is Validity.INVALID:
        witness = decision.witness
        if witness is not None:
            report |= {"anomaly": witness.anomaly, "text": witness.text}
        report["witness"] = [_operation_json(one) for one in witness_operations(decision)]
        report["anomalies"] = [{"anomaly": one.anomaly, "text": one.text} for one in decision.witnesses]
        prefix = decision.prefix
        failing = None if prefix is None else decision.operations.operation(prefix.failing)
        report["failing"] = None if failing is None else _operation_json(failing)
        report["picture"] = None if options.picture is None else str(options.picture)
    if found.small is not None:
        report["minimal"] = {
            "path": str(found.small_path), "notes": list(found.small.notes),
            "operations": [_operation_json(one) for one in found.small.operations],
        }  # fmt: skip
    if found.ordered:
        report["linearization"] = str(options.linearization)
    return json.dumps(report, indent=1)
