"""The ends of messages that several floors share."""

from eitherway.base.errors import MissingExtra, nearest


def test_the_nearest_name_is_offered():
    assert nearest("cmaas", ["cmaes", "de"]) == "Did you mean cmaes? Known: cmaes, de."
    assert nearest("zzz", ["cmaes"]) == "Known: cmaes."


def test_a_missing_extra_prints_the_clones_own_command():
    text = str(MissingExtra("gymnasium", "rl"))
    assert text == 'gymnasium is not installed; it comes with: pip install -e ".[rl]" -c constraints.txt'
