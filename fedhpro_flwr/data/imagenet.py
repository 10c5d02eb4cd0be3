"""ImageNet's normalisation: of encoders pretrained on it, and of published protocols that took it over for digits."""

from __future__ import annotations

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
