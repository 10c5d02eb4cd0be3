"""ImageNet's normalisation: for encoders pretrained on it, and for published protocols that use it for digits."""

from __future__ import annotations

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
