"""A message as one run of bytes, so that the mutator reaches its subject, its headers and its body alike."""


def flat(subject: str, headers: dict[str, str], body: bytes) -> bytes:
    head = "".join(f"{name}: {value}\n" for name, value in headers.items())
    return f"{subject}\n{head}\n".encode("utf-8", "surrogatepass") + body


def unflat(data: bytes) -> tuple[str, dict[str, str], bytes]:
    head, _, body = data.partition(b"\n\n")
    subject, *lines = head.decode("utf-8", "replace").split("\n")
    pairs = (line.partition(": ") for line in lines)
    return subject, {name: value for name, _, value in pairs}, body
