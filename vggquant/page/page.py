"""Packed networks that paint to one page of HTML that fetches nothing: checks them, and puts the page together.

What the page does is left to the scripts beside this file, which read and compute the networks by themselves; writing
the file is left to the command line.
"""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
import json
import os
from collections.abc import Sequence
from pathlib import Path
from string import Template

from vggquant.errors import NetworkError, OptionError, located, printable
from vggquant.files.container import check_codes, from_bytes, read_outline
from vggquant.files.disk import Bytes, PathLike, read_file
from vggquant.files.sources import resolve
from vggquant.networks.johnson import JohnsonNetwork

PAINTER = ("codes.js", "json.js", "reader.js", "networks.js", "plain.js", "webgl.js", "painter.js")  # run in a worker
_STRICT = '"use strict";\n'


def page_of(networks: Sequence[PathLike]) -> bytes:
    """Make a page that paints with some networks.

    Args:
        networks: Packed files of the family ``johnson``, or words for embedded ones. The page calls them by the names
            of their files, without folder and ending.

    Raises:
        VggQuantError: A file is missing or not sound, holds a network that does not paint, or two have one name.
    """
    named: dict[str, Bytes] = {}
    for network in networks:
        name = printable(Path(os.fspath(network)).stem)
        if name in named:
            raise OptionError("networks of different names", name, "rename one of the files", tensor="networks")
        named[name] = _read(network)
    files = [{"name": name, "file": _base64(data.tobytes())} for name, data in named.items()]
    style, script = source("page.css"), _STRICT + source("page.js")
    page = Template(source("page.html")).substitute(
        policy=_policy(style, script),
        title=html.escape(f"Paint in the style of {', '.join(named)}"),
        style=style,
        example=_base64(_part("example.jpg")),
        networks=json.dumps(files).replace("<", r"\u003c"),  # so that no name ends the element
        painter=_STRICT + "\n".join(map(source, PAINTER)),
        script=script,
    )
    return page.encode()


def source(name: str) -> str:
    """One of the texts that the page is made of."""
    return _part(name).decode()


def _part(name: str) -> bytes:
    return (importlib.resources.files("vggquant.page") / name).read_bytes()


def _read(network: PathLike) -> Bytes:
    """The bytes of a packed file, which are checked down to the single code."""
    file = resolve(network)
    outline = read_outline(file)
    with located(file):
        if not isinstance(outline, JohnsonNetwork):
            cure = "name one that `vggquant train` made"
            raise NetworkError("a network that paints", f"a network of the family {outline.family}", cure)
        data = read_file(file)
        check_codes(from_bytes(data))
    return data


def _policy(style: str, script: str) -> str:
    """What the page may do: run its own script and style, show pictures that it has, and start its worker."""
    allowed = {
        "default-src": "'none'",
        "script-src": _digest(script),
        "style-src": _digest(style),
        "img-src": "blob: data:",
        "worker-src": "blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{key} {value}" for key, value in allowed.items())


def _digest(text: str) -> str:
    return f"'sha256-{_base64(hashlib.sha256(text.encode()).digest())}'"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
