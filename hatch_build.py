"""Compiles the kernels of `surgery.drawing` on installation. Where that can't be, torch and zlib do their work."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from setuptools import Distribution, Extension

SOURCES = ["surgery/drawing/kernels.c", "surgery/drawing/png_packing.c"]
FLAGS = ["-O3", "-ffp-contract=off", "-ffinite-math-only", "-fno-signed-zeros", "-fno-trapping-math"]
"""Those of GCC and Clang; MSVC passes over what it does not know."""


class CompiledKernels(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's
        kernels = Extension("surgery.drawing._kernels", SOURCES, extra_compile_args=FLAGS, optional=True)
        command = Distribution({"ext_modules": [kernels]}).get_command_obj("build_ext")
        with tempfile.TemporaryDirectory() as temporary:
            command.build_temp, command.build_lib, command.inplace = temporary, temporary, True
            command.ensure_finalized()
            built = Path(command.get_ext_fullpath("surgery.drawing._kernels"))
            built.unlink(missing_ok=True)
            command.run()
        if built.exists():
            build_data["force_include"][str(built)] = f"surgery/drawing/{built.name}"
            build_data["infer_tag"], build_data["pure_python"] = True, False
