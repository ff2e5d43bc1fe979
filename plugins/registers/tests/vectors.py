#!/usr/bin/env python3
"""Makes vectors.tsv: what registers mean, by another program than the one under test.

    python3 vectors.py > vectors.tsv

Values are packed by Python's struct, bytes are put into their order letter by letter, and scales are computed with
exact fractions. A line is: what, type, order, registers on the wire (hex), value; of scales: what, type, raw, scale,
offset, value.
"""
import random
import struct
from fractions import Fraction

random.seed(20221117)

# The bytes of a value, A the most significant, in the order in which they come over the wire.
WIRE = {
    1: {"ABCD": "AB", "DCBA": "BA", "BADC": "BA", "CDAB": "AB"},
    2: {"ABCD": "ABCD", "DCBA": "DCBA", "BADC": "BADC", "CDAB": "CDAB"},
    4: {"ABCD": "ABCDEFGH", "DCBA": "HGFEDCBA", "BADC": "BADCFEHG", "CDAB": "GHEFCDAB"},
}
FORMATS = {"u16": ">H", "i16": ">h", "u32": ">I", "i32": ">i", "u64": ">Q", "i64": ">q", "f32": ">f", "f64": ">d"}
ORDERS = ["ABCD", "DCBA", "BADC", "CDAB"]


def wire(packed, order):
    letters = WIRE[len(packed) // 2][order]
    return bytes(packed["ABCDEFGH".index(letter)] for letter in letters).hex()


def integers(name):
    width = int(name[1:])
    low, high = (0, 2**width - 1) if name[0] == "u" else (-(2 ** (width - 1)), 2 ** (width - 1) - 1)
    fixed = [0, 1, high, low, high - 1, 0x0102 % (high + 1), 0x0102030405060708 % (high + 1)]
    if low < 0:
        fixed += [-1, -2]
    return fixed + [random.randint(low, high) for _ in range(6)]


def shortest32(bits):
    """The shortest decimal that a single reads back as itself; from 2^24 on the whole number that it is."""
    number = struct.unpack(">f", bits)[0]
    if abs(number) >= 2**24:
        return repr(number)
    for digits in range(1, 18):
        text = f"{number:.{digits}g}"
        try:
            if struct.pack(">f", float(text)) == bits:
                return repr(float(text))
        except OverflowError:
            pass
    raise AssertionError(number)


def numbers():
    for name, form in FORMATS.items():
        if name == "f32":
            values = [0.0, 1.0, -1.0, 12.5, 12.3, -273.15, 1e-7, 3.4028234663852886e38, 1.401298464324817e-45, 16777216.0]
            values += [random.uniform(-1e6, 1e6) for _ in range(6)]
        elif name == "f64":
            values = [0.0, 1.0, -1.0, 12.5, 12.3, 0.1, 1e300, 5e-324, -1.7976931348623157e308]
            values += [random.uniform(-1e12, 1e12) for _ in range(6)]
        else:
            values = integers(name)
        for value in values:
            packed = struct.pack(form, value)
            shown = shortest32(packed) if name == "f32" else repr(value)
            for order in ORDERS:
                yield "number", name, order, wire(packed, order), shown


def bits():
    for register in (0x0000, 0x0001, 0x8000, 0x0100, 0x1234, 0xFFFF):
        for bit in range(16):
            for order in ORDERS:
                on = register >> bit & 1
                yield "bit", str(bit), order, wire(struct.pack(">H", register), order), "true" if on else "false"
    for register in (0, 1, 256, 0x1234):
        for order in ORDERS:
            yield "number", "bool", order, wire(struct.pack(">H", register), order), "true" if register else "false"


def reorder(text, order):
    """A text of whole registers as its device sends it."""
    registers = [text[at : at + 2] for at in range(0, len(text), 2)]
    if order in ("CDAB", "DCBA"):
        registers.reverse()
    if order in ("BADC", "DCBA"):
        registers = [register[::-1] for register in registers]
    return b"".join(registers).hex()


def strings():
    for length, content in [(1, "A"), (2, "AB"), (5, "PUMP1"), (8, "SN-0042"), (16, "Outstation v1.2"), (3, "abc"), (6, "")]:
        padded = content.encode("ascii").ljust(length + length % 2, b"\0")
        for order in ORDERS:
            yield "string", f"string:{length}", order, reorder(padded, order), content


def scales():
    cases = []
    for scale in ("0.1", "0.01", "0.001", "10", "-0.1", "0.5", "1000", "0.0001", "3", "1e-05", "0.3", "2.5"):
        for offset in ("0", "-40", "-273.15", "100", "0.05", "-1"):
            for name in ("u16", "i16", "u32", "i32", "i64", "u64"):
                for raw in random.sample(integers(name), 3) + [123]:
                    cases.append((name, raw, scale, offset))
    for name, raw, scale, offset in cases:
        exact = Fraction(raw) * Fraction(scale) + Fraction(offset)
        whole = Fraction(scale).denominator == 1 and Fraction(offset).denominator == 1
        if whole:
            signed = name[0] == "i" or Fraction(scale) < 0 or Fraction(offset) < 0
            fits = -(2**63) <= exact < 2**63 if signed else exact < 2**64
            shown = str(exact.numerator) if fits else "overflow"
        else:
            shown = repr(exact.numerator / exact.denominator)
        yield "scale", name, str(raw), scale, offset, shown


for rows in (numbers(), bits(), strings(), scales()):
    for row in rows:
        print("\t".join(row))
