"""Builds the compiled parts of the checkers where a C compiler is found; without one everything works, slower."""

import sys

from setuptools import Extension, setup

PLAIN = "checkers/core"
CORE = "checkers/linearizability/core"
LINES = "checkers/linearizability/formats"
PARTS = ("module", "order", "linear", "state", "opening", "moves", "breadth", "search")
MACROS = [("Py_LIMITED_API", "0x030B0000"), ("_GNU_SOURCE", None)]
FLAGS = ["-std=c11", "-O3", "-fvisibility=hidden", "-Wall", "-Wextra"]

setup(
    ext_modules=[
        Extension(
            "checkers._core",
            sources=[f"{PLAIN}/{name}.c" for name in ("plain", "events", "dumps")],
            depends=[f"{PLAIN}/json.h", f"{PLAIN}/plain.h"],
            define_macros=MACROS,
            extra_compile_args=[] if sys.platform == "win32" else FLAGS,
            py_limited_api=True,
            optional=True,
        ),
        Extension(
            "checkers.linearizability._core",
            sources=[f"{CORE}/{name}.c" for name in PARTS],
            depends=[f"{CORE}/core.h", f"{CORE}/search.h"],
            define_macros=MACROS,
            extra_compile_args=[] if sys.platform == "win32" else FLAGS,
            py_limited_api=True,
            optional=True,
        ),
        Extension(
            "checkers.linearizability.formats._lines",
            sources=[f"{LINES}/lines.c"],
            include_dirs=[PLAIN],
            depends=[f"{PLAIN}/json.h"],
            define_macros=MACROS,
            extra_compile_args=[] if sys.platform == "win32" else FLAGS,
            py_limited_api=True,
            optional=True,
        ),
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
