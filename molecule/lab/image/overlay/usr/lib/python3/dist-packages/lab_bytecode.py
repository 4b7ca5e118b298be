"""Keep the bytecode of what Python imports from archives, until the next boot.

Ansible sends each module as an archive of source code. To compile that, over and over, is the largest part of
what a module costs on a lab host.
"""

from __future__ import annotations

import _imp
import marshal
import os
import sys
import zipimport
from types import CodeType

_FOLDER = "/run/lab-bytecode"
_compile = zipimport._compile_source  # type: ignore[attr-defined]


def _compiled(archive: str, source: bytes) -> CodeType:
    digest = _imp.source_hash(sys.hexversion, source).hex()
    path = f"{_FOLDER}/{digest}-{len(source)}"
    try:
        with open(path, "rb") as kept:
            code: CodeType = marshal.load(kept)  # what this module wrote; for root alone
    except (OSError, EOFError, ValueError, TypeError):
        code = _compile(archive, source)
        _keep(path, code)
    return code


def _keep(path: str, code: CodeType) -> None:
    mine = f"{path}.{os.getpid()}"
    try:
        os.makedirs(_FOLDER, mode=0o700, exist_ok=True)
        with open(mine, "wb") as file:
            marshal.dump(code, file)
        os.rename(mine, path)
    except OSError:
        pass  # it is compiled again the next time


zipimport._compile_source = _compiled  # type: ignore[attr-defined]
