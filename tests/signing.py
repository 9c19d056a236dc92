"""Files with Content Credentials, signed on the spot by a certificate made on the spot."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AI = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
ACTIONS = (
    {"action": "c2pa.created", "digitalSourceType": AI, "softwareAgent": {"name": "Painter"}},
    {"action": "c2pa.color_adjustments"},
)


def sign(
    source: Path,
    out: Path,
    signer: str = "A Signer",
    actions: tuple[Mapping[str, Any], ...] = ACTIONS,
    remote: str | None = None,
) -> Path:
    """Write `source` with a manifest to `out`; `remote`: the address where it says that lies."""
    import c2pa

    key, authority = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = _certificate("Authority", authority, "Authority", authority)
    own = _certificate(signer, key, "Authority", authority)
    info = c2pa.C2paSignerInfo(
        alg=c2pa.C2paSigningAlg.ES256,
        sign_cert=own + root,
        private_key=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        ta_url=None,
    )
    manifest = {
        "claim_generator_info": [{"name": "Studio", "version": "2"}],
        "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": list(actions)}}],
    }
    builder = c2pa.Builder(manifest)
    if remote is not None:
        builder.set_remote_url(remote)
        builder.set_no_embed()
    builder.sign_file(str(source), str(out), c2pa.Signer.from_info(info))
    return out


def _certificate(
    subject: str, key: ec.EllipticCurvePrivateKey, issuer: str, by: ec.EllipticCurvePrivateKey
) -> bytes:
    root = subject == issuer
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(root, None), critical=True)
        .add_extension(
            x509.KeyUsage(True, False, False, False, False, root, root, False, False),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), False)
    )
    if not root:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(usage, critical=False)
    return builder.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _name(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "An Organisation"),
        ]
    )
