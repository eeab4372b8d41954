"""What the tests of protocols share."""

import pytest
from torch import nn

from mote.files.tensor_hashes import sha256_tensors
from mote.models.clip import encode_classes


@pytest.fixture(autouse=True, scope="session")
def class_features_once():
    """Class features of equal towers, names and prompts are encoded once: the lists of a data set have many names."""
    known = {}

    def encoded(towers, names, templates, *arguments, **options):
        if not isinstance(towers.encode_text, nn.Module):
            return encode_classes(towers, names, templates, *arguments, **options)
        key = sha256_tensors(towers.encode_text.state_dict()), tuple(names), tuple(templates)
        if key not in known:
            known[key] = encode_classes(towers, names, templates, *arguments, **options)
        return known[key].clone()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mote.inference.classifier.encode_classes", encoded)
        yield
