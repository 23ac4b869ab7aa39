"""What packed files have lost against the weights they stand for: the study, and the page and figure that show it.

`study` runs a comparison with the help of `sample_pictures`, `subjects`, `measuring` and `paintings`; `table`,
`drawing` and `report` show one. The definition of the errors is left to `models.features`, the painting to `style`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vggquant.lazy_imports import offer

if TYPE_CHECKING:
    from vggquant.comparison.study import Comparison, compare

__all__ = ["Comparison", "compare"]

# a study needs torch, which the command line must not wait for
__getattr__, __dir__ = offer(__name__, {"Comparison": "study", "compare": "study"})
