"""What the malicious files would do: leave an empty file in the folder for temporary files."""

import base64
import codecs
import io
import marshal
import pickle
import tarfile
import zipfile

MARKER = "keras-secure-scan-corpus"
PYTHON = (
    f"(__import__('pathlib').Path(__import__('tempfile').gettempdir(), '{MARKER}').touch(), x)[1]"
)
SHELL = f'touch "${{TMPDIR:-/tmp}}/{MARKER}"'


def bytecode(variant):
    """The marshalled code of a lambda, in the base64 that Keras writes, or in another it reads."""
    raw = marshal.dumps(eval(f"lambda x: {PYTHON}").__code__)
    if variant.base64_style == "one line":
        return base64.b64encode(raw).decode()
    if variant.base64_style == "padded":
        text = base64.b64encode(raw).decode()
        return "\n\n ".join(text[at : at + 16] for at in range(0, len(text), 16)) + " \n"
    return codecs.encode(raw, "base64").decode("ascii")


class Touch:
    """Unpickling it runs a shell command."""

    def __reduce__(self):
        import os

        return os.system, (SHELL,)


class Evaluate:
    """Unpickling it evaluates Python."""

    def __reduce__(self):
        return eval, (f"(lambda x: {PYTHON})(0)",)


def pickled(variant):
    kind = variant.pick((Touch, Evaluate), "pickle")
    return pickle.dumps(kind(), protocol=variant.pick((4, 0, 2, 5), "protocol"))


def torch_pickled(variant):
    """An archive as torch.save writes it, whose pickle runs a command."""
    if variant.pick((True, False), "torch archive"):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl", pickled(variant))
            archive.writestr("archive/version", "3\n")
        return base64.b64encode(file.getvalue()).decode()
    return base64.b64encode(pickled(variant)).decode()


def traversing_tar(variant):
    """A tar file with a member that leaves the folder it is extracted to."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo(variant.pick(("../../", "/tmp/", "a/../../"), "tar") + MARKER)
        kind = variant.pick(("file", "symlink", "hardlink"), "tar member")
        if kind != "file":
            member.type = tarfile.SYMTYPE if kind == "symlink" else tarfile.LNKTYPE
            member.linkname = "/etc/passwd"
        archive.addfile(member, io.BytesIO(b""))
    return file.getvalue()
