import numpy as np
import pytest

from eitherway.base.errors import ModelError
from eitherway.bicycle import whipple
from eitherway.bicycle.physics import State, start

# Meijaard et al. 2007, table 2
TABLE = {
    0: (3.13164324790656, -3.13164324790656, 5.53094371765393, -5.53094371765393),
    1: (3.52696170990070 + 0.80774027519930j, -3.13423125066578, -7.11008014637442),
    2: (2.68234517512745 + 1.68066296590675j, -3.07158645641514, -8.67387984831735),
    3: (1.70675605663975 + 2.31582447384325j, -2.63366137253667, -10.35101467245920),
    4: (0.41325331521125 + 3.07910818603206j, -1.42944427361326, -12.15861426576447),
    5: (-0.77534188219585 + 4.46486771378823j, -0.32286642900409, -14.07838969279822),
    6: (-1.52644486584142 + 5.87673060598709j, -0.00406690076970, -16.08537123098026),
    7: (-2.13875644258362 + 7.19525913329805j, 0.10268170574766, -18.15788466125262),
    8: (-2.69348683581097 + 8.46037971396931j, 0.14327879765713, -20.27940894394569),
    9: (-3.21675402252485 + 9.69377351531791j, 0.15790184030917, -22.43788559040858),
    10: (-3.72016840437287 + 10.90681139476287j, 0.16105338653172, -24.62459635017404),
}


@pytest.mark.parametrize("speed", TABLE)
def test_eigenvalues_are_the_published_ones(speed):
    found = whipple.eigenvalues(speed)
    expected = [z for value in TABLE[speed] for z in {complex(value), complex(value).conjugate()}]
    assert len(expected) == 4
    for value in expected:
        assert min(abs(found - value)) < 1e-12


def test_matrices_are_the_published_ones():
    published = whipple.Matrices(
        M=np.array([[80.81722, 2.31941332208709], [2.31941332208709, 0.29784188199686]]),
        C1=np.array([[0, 33.86641391492494], [-0.85035641456978, 1.68540397397560]]),
        K0=np.array([[-80.95, -2.59951685249872], [-2.59951685249872, -0.80329488458618]]),
        K2=np.array([[0, 76.59734589573222], [0, 2.65431523794604]]),
    )
    for mine, theirs in zip(whipple.matrices(), published):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=3e-14)


def test_the_system_is_that_of_sympy():
    """The linearised rows of SymPy's test of Kane's method on this bicycle, at 3 m/s."""
    v = 3.0
    A, _ = whipple.linear_system(v)
    lean = [
        9.48977444677355,
        -0.891197738059089 * v**2 - 0.571523173729245,
        -0.105522449805691 * v,
        -0.330515398992311 * v,
    ]
    steer = [11.7194768719633, -1.97171508499972 * v**2 + 30.9087533932407, 3.67680523332152 * v, -3.08486552743311 * v]
    np.testing.assert_allclose(A[2:], [lean, steer], rtol=1e-12)


def test_between_weave_and_capsize_it_rides_by_itself():
    for speed, stable in ((4.2923, False), (4.2925, True), (6.0242, True), (6.0243, False)):
        assert (whipple.eigenvalues(speed).real.max() < 0) == stable


def test_one_long_step_equals_many_short_ones():
    whole = whipple.discretise(np.array([5.0]), 0.2)[0]
    short = whipple.discretise(np.array([5.0]), 0.01)[0]
    force = np.array([10.0, -1.0])
    z = np.array([0.1, 0.05, -0.2, 0.3])
    many = z
    for _ in range(20):
        many = short[:, :4] @ many + short[:, 4:] @ force
    np.testing.assert_allclose(many, whole[:, :4] @ z + whole[:, 4:] @ force, rtol=1e-12)


def test_the_exact_step_has_the_eigenvalues_of_the_flow():
    discrete = np.linalg.eigvals(whipple.discretise(np.array([7.0]))[0][:, :4])
    for value in np.exp(0.01 * whipple.eigenvalues(7.0)):
        assert min(abs(discrete - value)) < 1e-13


def test_the_matrix_exponential_is_scipys():
    linalg = pytest.importorskip("scipy.linalg")
    draw = np.random.default_rng(0).normal(size=(5, 6, 6)) * np.array([1e-3, 0.1, 1, 3, 10])[:, None, None]
    for matrix in draw:
        expected = linalg.expm(matrix)
        np.testing.assert_allclose(
            whipple.matrix_exponential(matrix), expected, rtol=0, atol=1e-12 * abs(expected).max()
        )


def test_a_speed_steps_the_same_alone_and_among_others():
    speeds = np.array([1.0, 8.0, 2.5])
    together = whipple.discretise(speeds)
    for speed, exact in zip(speeds, together):
        np.testing.assert_array_equal(whipple.discretise(np.array([speed]))[0], exact)


def test_without_a_rider_a_stable_bicycle_rights_itself_and_a_slow_one_falls():
    for speed, stays in ((5.0, True), (3.0, False)):
        exact = whipple.entries(whipple.discretise(np.array([speed])))
        state = start(1)._replace(lean=np.array([0.01]))
        for _ in range(1000):
            state = whipple.step(state, 0.0, 0.0, speed=speed, discrete=exact)
        assert (abs(state.lean[0]) < 0.01) == stays


def test_steering_left_turns_left():
    exact = whipple.entries(whipple.discretise(np.array([4.0])))
    state = State(*(np.array([value]) for value in (0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)))
    later = whipple.step(state, 0.0, 0.0, speed=4.0, discrete=exact)
    assert later.heading[0] > 0
    assert later.y[0] == pytest.approx(0.04)


@pytest.mark.parametrize("speed", [0.0, -2.0, (3.0, 1.0), float("nan")])
def test_a_speed_that_is_none_is_refused(speed):
    with pytest.raises(ModelError, match="expected metres per second above 0, or"):
        whipple.speeds(np.zeros(1), speed)


def test_speeds_of_a_range_fill_it():
    drawn = whipple.speeds(np.linspace(-1, 1, 5), (1.0, 8.0))
    assert drawn.tolist() == [1.0, 2.75, 4.5, 6.25, 8.0]
