"""Keys that have no effect on a run are refused."""

import pytest

from mindyolo_v4.config.recipe import load_config, recipes_folder
from mindyolo_v4.config.root import Config
from mindyolo_v4.errors import UserError

OMEGA = "cspdarknet53/omega.yaml"  # with data.classify.crop: darknet
IMAGENET = "cspdarknet53/imagenet.yaml"  # with data.classify.crop: resized


def of(recipe: str, **values: str) -> Config:
    overrides = [(key.replace("__", "."), value) for key, value in values.items()]
    return load_config(recipes_folder() / recipe, overrides)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((name, "0.1") for name in ("jitter", "translate", "scale", "shear")),
        *(
            ("perspective", "0.001"),
            ("pixel_transforms", "{Blur: 0.1}"),
            ("mosaic_off_epochs", "2"),
        ),
    ],
)
def test_augmentations_of_detectors_are_refused_for_a_classifier(key: str, value: str) -> None:
    with pytest.raises(UserError, match=rf"data\.augment\.{key}: is for detectors"):
        of(IMAGENET, **{f"data__augment__{key}": value})


def test_a_classifiers_rotation_is_part_of_the_darknet_crop() -> None:
    assert of(OMEGA).data.augment.degrees == 7.0
    expected = (
        r"degrees: has no effect with data\.classify\.crop: resized \(got 7\.0, expected 0, or"
    )
    with pytest.raises(UserError, match=expected):
        of(IMAGENET, data__augment__degrees="7")
    with pytest.raises(UserError, match=expected):
        of(OMEGA, data__classify__crop="resized")


def test_packed_images_are_those_of_class_folders() -> None:
    assert of(IMAGENET, data__mindrecord="packed").data.mindrecord == "packed"
    with pytest.raises(UserError, match=r"data\.mindrecord: is not read with data\.format: coco"):
        of("yolov4/yolov4.yaml", data__mindrecord="packed")
