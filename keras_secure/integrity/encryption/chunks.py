"""Authenticated encryption of a stream, chunk by chunk, so that no part can be moved or missed.

The STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizar (2015): every chunk is sealed by
itself under a nonce that holds its number and whether it is the last. A chunk that was altered,
moved, left out, repeated or taken from another file does not open; neither does a file that ends
early or late. Only one chunk, and the one after it, is ever in memory.
"""

from dataclasses import dataclass
from typing import Any, BinaryIO

from keras_secure.errors import InputError, IntegrityError

TAG_SIZE = 16


@dataclass(frozen=True)
class ChunkCipher:
    """Seals and opens the chunks of one file, under a key that is used for nothing else.

    Args:
        aead: An AEAD of `cryptography` with nonces of 12 bytes and tags of 16.
        prefix: The first bytes of every nonce.
        counter_size: How many bytes of a nonce number the chunk; one more tells the last.
        chunk_size: Bytes of plaintext in every chunk but the last.
        associated_data: What every chunk authenticates besides itself; None for nothing.

    Reference:
        Hoang, Reyhanitabar, Rogaway, Vizar 2015, Online Authenticated-Encryption and its
        Nonce-Reuse Misuse-Resistance, section 7 (IACR ePrint 2015/189).
    """

    aead: Any
    prefix: bytes
    counter_size: int
    chunk_size: int
    associated_data: bytes | None = None

    def seal(self, reader: BinaryIO, writer: Any) -> None:
        """Writes what `reader` holds, sealed; an empty stream is one empty chunk.

        Raises:
            InputError: There are more chunks than can be numbered.
        """
        index, chunk = 0, read_exactly(reader, self.chunk_size)
        while True:
            following = b""
            if len(chunk) == self.chunk_size:
                following = read_exactly(reader, self.chunk_size)
            nonce = self._nonce(index, last=not following)
            writer.write(self.aead.encrypt(nonce, chunk, self.associated_data))
            if not following:
                return
            index, chunk = index + 1, following

    def open(self, reader: BinaryIO, writer: Any, name: str) -> None:
        """Writes what the rest of `reader` holds, opened; each chunk only when it is authentic.

        Args:
            reader: Stands at the first chunk.
            writer: Takes plaintext that is authentic so far. Until this returns, the end may be
                missing.
            name: What to call the file in errors.

        Raises:
            IntegrityError: Not every byte is where and what it was when it was sealed.
        """
        start = reader.tell()
        size = self.chunk_size + TAG_SIZE
        index, chunk = 0, read_exactly(reader, size)
        while True:
            following = read_exactly(reader, size) if len(chunk) == size else b""
            plaintext = self._open(index, chunk, last=not following)
            if plaintext is None:
                raise IntegrityError(
                    f"{name} was not decrypted: {self._cause(index, chunk, not following, start)}. "
                    "Get the file again from where it was encrypted."
                )
            if index and not plaintext:
                raise IntegrityError(
                    f"{name} was not decrypted: its last chunk is empty, which no encryption "
                    "leaves. Get the file again from where it was encrypted."
                )
            writer.write(plaintext)
            if not following:
                return
            index, chunk = index + 1, following

    def _nonce(self, index: int, last: bool) -> bytes:
        try:
            return self.prefix + index.to_bytes(self.counter_size, "big") + bytes([last])
        except OverflowError as error:
            raise InputError(
                f"The data has more than {index} chunks of {self.chunk_size} bytes, which is all "
                "that one file can number. Encrypt it in parts."
            ) from error

    def _open(self, index: int, chunk: bytes, last: bool) -> bytes | None:
        from cryptography.exceptions import InvalidTag

        if len(chunk) < TAG_SIZE:
            return None
        try:
            return self.aead.decrypt(self._nonce(index, last), chunk, self.associated_data)
        except InvalidTag:
            return None

    def _cause(self, index: int, chunk: bytes, last: bool, start: int) -> str:
        begin = start + index * (self.chunk_size + TAG_SIZE)
        end = begin + len(chunk)
        if not chunk:
            return f"it is truncated: it ends at byte {begin}, where its contents should begin"
        # The other flag tells a file that ends early or late from a chunk that is not authentic.
        if self._open(index, chunk, not last) is not None:
            if last:
                return f"it is truncated: what followed byte {end} is missing"
            return f"bytes were added after its end at byte {end}"
        return (
            f"its bytes {begin} to {end} are not what was written there (altered, cut short, moved "
            "or from another file)"
        )


def read_exactly(reader: BinaryIO, size: int) -> bytes:
    """Reads `size` bytes, or less at the end of the stream alone."""
    data = reader.read(size)
    while len(data) < size:
        more = reader.read(size - len(data))
        if not more:
            break
        data += more
    return data
