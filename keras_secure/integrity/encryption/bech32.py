"""Bech32, the text form of age's keys: 32 bytes with a name before and a checksum behind.

Reference: BIP 173; age-encryption.org/v1, section "The X25519 recipient type".
"""

from keras_secure.errors import InputError

_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM_LENGTH = 6


def encode(name: str, data: bytes) -> str:
    """Returns the text of `data` under a name in lower case."""
    values = _regroup(data, 8, 5, pad=True)
    check = _polymod([*_expand(name), *values, *[0] * _CHECKSUM_LENGTH]) ^ 1
    values += [check >> 5 * (_CHECKSUM_LENGTH - 1 - i) & 31 for i in range(_CHECKSUM_LENGTH)]
    return name + "1" + "".join(_ALPHABET[value] for value in values)


def decode(name: str, text: str) -> bytes:
    """Returns the 32 bytes that a text holds.

    Raises:
        InputError: It is of another name, was mistyped, or does not hold 32 bytes. The text is not
            repeated: it may be a secret.
    """
    problem = f"A key that begins with {text[: len(name) + 1]!r} is mistyped or incomplete"
    if text not in (text.lower(), text.upper()):
        raise InputError(f"{problem}: it mixes cases. Copy it again.")
    found, _, encoded = text.lower().rpartition("1")
    if found != name or not set(encoded) <= set(_ALPHABET):
        raise InputError(f"{problem}: it is not of the form {name}1.... Copy it again.")
    values = [_ALPHABET.index(letter) for letter in encoded]
    if _polymod([*_expand(name), *values]) != 1:
        raise InputError(f"{problem}: its checksum does not fit. Copy it again.")
    data = bytes(_regroup(values[:-_CHECKSUM_LENGTH], 5, 8, pad=False))
    if len(data) != 32 or encode(name, data) != text.lower():
        raise InputError(f"{problem}: it does not hold 32 bytes. Copy it again.")
    return data


def _expand(name: str) -> list[int]:
    return [ord(c) >> 5 for c in name] + [0] + [ord(c) & 31 for c in name]


def _polymod(values: list[int]) -> int:
    check = 1
    for value in values:
        top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ value
        for bit, term in enumerate(_GENERATOR):
            check ^= term if top >> bit & 1 else 0
    return check


def _regroup(values: bytes | list[int], width: int, new_width: int, pad: bool) -> list[int]:
    held = bits = 0
    result = []
    for value in values:
        held, bits = (held << width | value) & 0xFFF, bits + width
        while bits >= new_width:
            bits -= new_width
            result.append(held >> bits & (1 << new_width) - 1)
    if pad and bits:
        result.append(held << new_width - bits & (1 << new_width) - 1)
    return result
