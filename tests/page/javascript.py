"""Runs the page's scripts in node, which has no part in the package itself; tests are skipped where there is none."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest

from vggquant.page.page import source

NODE = shutil.which("node")
NEEDS_NODE = pytest.mark.skipif(NODE is None, reason="no node here")

# the family of `tests.toy`, which the page does not know
TOY = """
FAMILIES.toy = (configuration) => {
  requireKeys(configuration, ["channels", "classes"], "configuration");
  const [c, classes] = [configuration.get("channels"), configuration.get("classes")];
  if (!isCount(c, 4097) || c < 1 || !isCount(classes, 65537) || classes < 1) refuse("a toy", "another");
  return { tensors: [
    { name: "conv.weight", shape: [c, 3, 3, 3], weight: true }, { name: "norm.weight", shape: [c] },
    { name: "norm.bias", shape: [c] }, { name: "depthwise.weight", shape: [c, 1, 3, 3], weight: true },
    { name: "fc.weight", shape: [classes, c], weight: true }, { name: "fc.bias", shape: [classes] } ] };
};
"""


def run_node(names: Sequence[str], driver: str, cases: Sequence[Any]) -> list[Any]:
    """What a function `judge` of the driver returns for each case, all as JSON.

    Args:
        names: Scripts of the page that come before the driver.
        driver: Defines `judge`.
        cases: What it is given, one after the other.
    """
    assert NODE is not None
    loop = """
    for (const line of require("fs").readFileSync(0, "utf-8").split("\\n")) {
      if (line) console.log(JSON.stringify(judge(JSON.parse(line))));
    }"""
    script = "\n".join(['"use strict";', *(source(name) for name in names), driver, loop])
    lines = "\n".join(json.dumps(case) for case in cases)
    done = subprocess.run([NODE, "-e", script], input=lines, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
