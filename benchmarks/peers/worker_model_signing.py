"""Signs and verifies with OpenSSF model-signing, in its own environment: a JSON line per job.

A job is `{"do": "sign" | "verify", "path", "signature", "key", ...}`; the answer is
`{"error": text}`, where an empty text stands for success.
"""

import json
import sys

import model_signing


def hashing(job):
    """The configuration that a job asks for, or None to let the library guess."""
    method = job.get("method")
    if method is None:
        return None
    config = model_signing.hashing.Config()
    options = {"hashing_algorithm": job.get("algorithm", "sha256")}
    if method == "shards":
        config.use_shard_serialization(shard_size=job["shard_size"], **options)
    else:
        config.use_file_serialization(**options)
    config.set_ignored_paths(
        paths=job.get("ignore", []), ignore_git_paths=job.get("ignore_git", True)
    )
    return config.set_allow_symlinks(job.get("allow_symlinks", False))


def run(job):
    if job["do"] == "sign":
        config = model_signing.signing.Config().use_elliptic_key_signer(private_key=job["key"])
    else:
        config = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=job["key"])
    if (chosen := hashing(job)) is not None:
        config.set_hashing_config(chosen)
    getattr(config, job["do"])(job["path"], job["signature"])


for line in sys.stdin:
    try:
        run(json.loads(line))
        error = ""
    except Exception as caught:
        error = f"{type(caught).__name__}: {caught}"
    print(json.dumps({"error": error}), flush=True)
