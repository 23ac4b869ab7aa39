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
from vggquant.files.container import check_codes, from_bytes
from vggquant.files.disk import Bytes, PathLike, read_file
from vggquant.files.sources import resolve
from vggquant.networks.adain import AdaINNetwork
from vggquant.networks.arbitrary import ArbitraryNetwork
from vggquant.networks.johnson import JohnsonNetwork
from vggquant.networks.network import Network

PAGE = ("jobs.js", "page.js", "camera.js", "styles.js")
# run in a worker
PAINTER = ("codes.js", "json.js", "reader.js", "networks.js", "arbitrary.js", "plain.js", "webgl.js", "painter.js")
_STRICT = '"use strict";\n'


def page_of(networks: Sequence[PathLike]) -> bytes:
    """Make a page that paints with some networks.

    Args:
        networks: Packed files of the families ``johnson`` and ``arbitrary``, or words for embedded ones. The page calls
            them by the names of their files, without folder and ending.

    Raises:
        VggQuantError: A file is missing or not sound, holds a network that does not paint in a page, or two have one
            name.
    """
    named: dict[str, tuple[Network, Bytes]] = {}
    for network in networks:
        name = printable(Path(os.fspath(network)).stem)
        if name in named:
            cure = "name each network once, or rename a file"
            raise OptionError("networks of different names", name, cure, tensor="networks")
        named[name] = _read(network)
    files = [
        {"name": name, "family": network.family, "file": _base64(data.tobytes())}
        for name, (network, data) in named.items()
    ]
    any_style = any(isinstance(network, ArbitraryNetwork) for network, _ in named.values())
    style, script = source("page.css"), _joined(PAGE)
    page = Template(source("page.html")).substitute(
        policy=_policy(style, script),
        title=html.escape(f"Paint in the style of {', '.join(named)}"),
        style=style,
        example=_image("example.jpg"),
        style_example=_image("style.jpg") if any_style else "data:,",
        networks=json.dumps(files).replace("<", r"\u003c"),  # so that no name ends the element
        painter=_joined(PAINTER),
        script=script,
    )
    return page.encode()


def source(name: str) -> str:
    """One of the texts that the page is made of."""
    return _part(name).decode()


def _joined(scripts: Sequence[str]) -> str:
    return _STRICT + "\n".join(map(source, scripts))


def _image(name: str) -> str:
    return f"data:image/jpeg;base64,{_base64(_part(name))}"


def _part(name: str) -> bytes:
    return (importlib.resources.files("vggquant.page") / name).read_bytes()


def _read(path: PathLike) -> tuple[Network, Bytes]:
    """The network of a packed file, and the file's bytes, which are checked down to the single code."""
    file = resolve(path)
    with located(file):
        data = read_file(file)
        weights = from_bytes(data)
        network = weights.network
        if isinstance(network, AdaINNetwork):
            cure = "name arbitrary, which takes any style picture too"
            raise NetworkError("a network small and quick enough for a page", "one of the family adain", cure)
        if not isinstance(network, JohnsonNetwork | ArbitraryNetwork):
            cure = "name one that `vggquant train` made"
            raise NetworkError("a network that paints", f"a network of the family {network.family}", cure)
        check_codes(weights)
    return network, data


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
