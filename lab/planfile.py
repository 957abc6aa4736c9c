"""Plan files: TOML in, `Plan` out, and back; the refusals name the key, the file and the nearest right name."""

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from lab.duration import Duration
from lab.errors import PlanError
from lab.plan import CONTROLLER, CONTROLLERS, DLEDGER, DLEDGER_REPLICAS, Plan


def nearest(word: str, known: Iterable[str], summary: str = "") -> str:
    """``; did you mean 'x'?`` or what is known, for the end of a refusal; ``summary`` in place of too long a list."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if not close:
        lowered = {name.lower(): name for name in names}
        close = [lowered[match] for match in difflib.get_close_matches(word.lower(), lowered, n=1, cutoff=0.5)]
    return f"; did you mean {close[0]!r}?" if close else f"; known: {summary or ', '.join(names)}"


def read_plan(path: Path) -> dict[str, Any]:
    """The raw tables of a plan file; raises PlanError when it cannot be read or is no TOML."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PlanError(f"cannot read plan {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise PlanError(f"plan {path} is not UTF-8 text: byte {error.start}") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"plan {path} is not TOML: {error}") from None


def build_plan(tables: Mapping[str, Any], origin: str) -> Plan:
    """Turn raw tables into a `Plan`; ``origin`` (a path, or "options") is named in refusals."""
    _refuse_unknown_keys(Plan, tables, origin, "")
    tables = _by_mode(tables)
    try:
        return msgspec.convert(tables, Plan, dec_hook=_decode, strict=True)
    except msgspec.ValidationError as error:
        raise PlanError(f"{origin}: {_in_plan_words(str(error), tables)}") from None


def _in_plan_words(refusal: str, tables: Mapping[str, Any]) -> str:
    """msgspec's words with the key as plans write it, and its value: ``cluster.replicas = 0: expected int >= 1``."""
    what, found, path = refusal.partition(" - at `$.")
    what = what.replace("`", "")
    if not found:
        return what
    key = path.removesuffix("`")
    value: Any = tables
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", key):
        try:
            value = value[name] if name else value[int(index)]
        except (KeyError, IndexError, TypeError):
            value = None  # an element that msgspec does not name
    told = f" = {value!r}" if isinstance(value, str | int | float) and repr(value) not in what else ""
    return f"{key}{told}: {what[0].lower()}{what[1:]}"


def _by_mode(tables: Mapping[str, Any]) -> Mapping[str, Any]:
    """Fill in what depends on the mode."""
    cluster = tables.get("cluster")
    if not isinstance(cluster, Mapping):
        return tables
    sizes = {
        DLEDGER: {"replicas": DLEDGER_REPLICAS},
        CONTROLLER: {"replicas": CONTROLLERS, "namesrvs": CONTROLLERS},
    }
    return {**tables, "cluster": {**sizes.get(str(cluster.get("mode")), {}), **cluster}}


def plan_tables(plan: Plan) -> dict[str, Any]:
    """The plan as plain tables, durations as text; `build_plan` of it gives the same plan."""
    tables: dict[str, Any] = msgspec.to_builtins(plan, enc_hook=str)
    return tables


def write_plan(plan: Plan) -> str:
    """The plan as TOML text."""
    lines: list[str] = []
    _emit(_without_none(plan_tables(plan)), "", lines)
    return "\n".join(lines).lstrip("\n") + "\n"


def _decode(kind: type, value: object) -> object:
    if kind is Duration:
        return Duration.parse(value)
    raise TypeError(f"plan fields of type {kind} have no reader")


def _refuse_unknown_keys(kind: Any, tables: object, origin: str, path: str) -> None:
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    if not isinstance(tables, Mapping):
        return  # msgspec says what was expected here
    for key, value in tables.items():
        if key not in fields:
            where = f" in [{path}]" if path else ""
            raise PlanError(f"{origin}: unknown key {key!r}{where}{nearest(key, fields)}")
        inner = fields[key]
        below = f"{path}.{key}" if path else key
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            _refuse_unknown_keys(inner, value, origin, below)
        elements = getattr(inner, "__args__", ())
        if elements and isinstance(elements[0], type) and issubclass(elements[0], msgspec.Struct):
            for element in value if isinstance(value, list | tuple) else ():
                _refuse_unknown_keys(elements[0], element, origin, below)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_without_none(inner) for inner in value]
    return value


def _emit(table: Mapping[str, Any], path: str, lines: list[str]) -> None:
    later: list[tuple[str, Any]] = []
    for key, value in table.items():
        if isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict)):
            later.append((key, value))
        else:
            lines.append(f"{_key(key)} = {_scalar(value)}")
    for key, value in later:
        name = f"{path}.{_key(key)}" if path else _key(key)
        for element in [value] if isinstance(value, dict) else value:
            if not element:
                continue
            lines.append("")
            lines.append(f"[{name}]" if isinstance(value, dict) else f"[[{name}]]")
            _emit(element, name, lines)


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else _scalar(key)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(_scalar(element) for element in value) + "]"
    if isinstance(value, str):
        return msgspec.json.encode(value).decode()  # TOML's basic strings escape as JSON's do
    return repr(value)
