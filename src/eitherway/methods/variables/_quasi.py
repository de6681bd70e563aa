"""Points that fill the unit box more evenly than chance does: a scrambled Sobol' sequence, from any index onwards."""

from __future__ import annotations

from functools import cache

import numpy as np

from eitherway.methods.codec import state

BITS = 32
COLUMNS = 512
"""Columns that are filled evenly; in more, no affordable number of points is more even than chance."""


@state
class Quasi:
    """A scrambled Sobol' sequence of D columns: `directions` (D, 32) and `shift` (D,), both uint32."""

    directions: np.ndarray
    shift: np.ndarray


def quasi(columns: int, generator: np.random.Generator) -> Quasi:
    """A sequence of its own for each generator: random starting numbers, random linear scramble, random digital shift.

    Every block of 2^k points from a multiple of 2^k on has one point in each of 2^k equal slices of every column.

    Source: Sobol' 1967; Bratley & Fox 1988 (algorithm 659) for the recurrence; Matousek 1998 for the scramble.
    """
    D = min(columns, COLUMNS)
    directions = np.empty((D, BITS), np.uint32)
    draws = generator.random((D, BITS)).tolist()
    for column, polynomial in enumerate((None, *_primitive(D - 1))):
        directions[column] = _recurrence(polynomial, draws[column])
    # lower triangular in bits, ones on the diagonal: bit r of a number becomes a sum of bits 0..r (0 the highest)
    high = np.uint32(0x80000000) >> np.arange(BITS, dtype=np.uint32)
    rows = generator.integers(0, 2**BITS, (D, BITS), np.uint32) & ~(
        np.uint32(0xFFFFFFFF) >> np.arange(BITS, dtype=np.uint32)
    )
    rows |= high
    scrambled = np.zeros_like(directions)
    for r in range(BITS):
        parity = np.bitwise_count(directions & rows[:, r, None]) & 1
        scrambled |= parity.astype(np.uint32) << np.uint32(BITS - 1 - r)
    return Quasi(scrambled, generator.integers(0, 2**BITS, D, np.uint32))


def fill(sequence: Quasi, first: int, n: int, columns: int, generator: np.random.Generator) -> np.ndarray:
    """(n, columns) in (0, 1): members from `first` on; columns beyond `COLUMNS` are uniform, from the generator."""
    index = np.arange(first, first + n, dtype=np.uint32)
    used = max(1, (first + n - 1).bit_length())
    bits = (index[:, None] >> np.arange(used, dtype=np.uint32)) & np.uint32(1)  # (n, used)
    terms = sequence.directions[None, :, :used] * bits[:, None, :]
    whole = np.bitwise_xor.reduce(terms, axis=2) ^ sequence.shift
    points = (whole + 0.5) / 2.0**BITS
    if columns > points.shape[1]:
        points = np.concatenate([points, generator.random((n, columns - points.shape[1]))], axis=1)
    return points


def _recurrence(polynomial: int | None, draws: list[float]) -> list[int]:
    """32 direction numbers of one column; its first ones, one per degree, are odd numbers chosen by the draws."""
    if polynomial is None:
        return [1 << (BITS - 1 - k) for k in range(BITS)]
    degree = polynomial.bit_length() - 1
    m = [2 * int(draws[k] * 2**k) + 1 for k in range(min(degree, BITS))]
    for k in range(degree, BITS):
        new = m[k - degree] ^ (m[k - degree] << degree)
        for i in range(1, degree):
            if polynomial >> (degree - i) & 1:
                new ^= m[k - i] << i
        m.append(new)
    return [m[k] << (BITS - 1 - k) for k in range(BITS)]


@cache
def _primitive(n: int) -> tuple[int, ...]:
    """The first n primitive polynomials over GF(2), coefficients as bits, by rising degree."""
    found: list[int] = []
    degree = 0
    while len(found) < n:
        degree += 1
        period = 2**degree - 1
        divisors = [period // p for p in _prime_factors(period)]
        for polynomial in range(2**degree + 1, 2 ** (degree + 1), 2):
            # primitive: x has order 2^degree - 1, no less
            if _power_of_x(period, polynomial) == 1 and all(_power_of_x(d, polynomial) != 1 for d in divisors):
                found.append(polynomial)
                if len(found) == n:
                    break
    return tuple(found)


def _power_of_x(exponent: int, polynomial: int) -> int:
    """x^exponent modulo the polynomial over GF(2)."""
    degree = polynomial.bit_length() - 1
    result, base = 1, 2 if degree > 1 else 2 ^ polynomial
    while exponent:
        if exponent & 1:
            result = _product(result, base, polynomial, degree)
        base = _product(base, base, polynomial, degree)
        exponent >>= 1
    return result


def _product(a: int, b: int, polynomial: int, degree: int) -> int:
    product = 0
    while b:
        if b & 1:
            product ^= a
        b >>= 1
        a <<= 1
        if a >> degree & 1:
            a ^= polynomial
    return product


def _prime_factors(n: int) -> list[int]:
    factors, p = [], 2
    while p * p <= n:
        if n % p == 0:
            factors.append(p)
            while n % p == 0:
                n //= p
        p += 1
    return factors + [n] if n > 1 else factors
