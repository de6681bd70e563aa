"""Every method through every law: a new method joins by being there."""

import pytest

from eitherway import methods
from eitherway.testing import LAWS

pytest.importorskip("torch")  # methods that want gradients are driven with torch costs


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", methods.known())
def test_every_method_obeys(name, law):
    law(methods.get(name))
