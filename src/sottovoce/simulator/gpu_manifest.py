"""Reference manifests of the simulated GPU vendor, in the shape of NVIDIA's, with an enveloped XML signature."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from sottovoce.attest.nvidia import xml
from sottovoce.simulator.gpu_pki import Signer, sign_raw

__all__ = ["INFO", "manifest_text", "sign_manifest"]


def manifest_text(product: str, version: str, golden: Mapping[int, Sequence[bytes]]) -> str:
    """A manifest without its signature's value: `sign_manifest` puts it before the end."""
    resources = "".join(
        f'<ns0:Resource type="Measurement" index="{index - 1}" active="True" alternatives="{len(values)}" '
        + " ".join(f'ns2:Hash{number}="{value.hex()}"' for number, value in enumerate(values))
        + f' name="Simulated_{index - 1}" size="48"/>'
        for index, values in golden.items()
    )
    swid = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
    return (
        f'<SoftwareIdentity xmlns="{swid}" xmlns:ns0="{swid}" xmlns:ns2="http://www.w3.org/2001/04/xmlenc#sha384" '
        f'corpus="false" name="{product}" patch="false" supplemental="false" tagId="simulated" version="1.0">\n'
        '<ns0:Entity name="Sottovoce simulated hardware" role="softwareCreator tagCreator"/>\n'
        f'<ns0:Meta colloquialVersion="{version}" edition="Simulated" product="{product}"/>\n'
        f"<ns0:Payload>{resources}</ns0:Payload>\n</SoftwareIdentity>"
    )


INFO: Final = (
    '<ds:SignedInfo><ds:CanonicalizationMethod Algorithm="http://www.w3.org/2006/12/xml-c14n11"/>'
    '<ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"/>'
    '<ds:Reference URI=""><ds:Transforms>'
    '<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>'
    '<ds:Transform Algorithm="http://www.w3.org/2006/12/xml-c14n11"/></ds:Transforms>'
    '<ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#sha384"/>'
    "<ds:DigestValue>{digest}</ds:DigestValue></ds:Reference></ds:SignedInfo>"
)
_END: Final = "</SoftwareIdentity>"


def sign_manifest(text: str, signer: Signer, *, info: str = INFO) -> bytes:
    """The manifest with an enveloped signature (W3C XML Signature 1.1) and the signer's certificates."""
    digest = base64.b64encode(hashlib.sha384(xml.parse(text.encode()).canonical()).digest()).decode()
    keys = "".join(
        f"<ds:X509Certificate>{base64.b64encode(one).decode()}</ds:X509Certificate>" for one in signer.chain
    )

    def signed(value: str) -> bytes:
        signature = (
            f'<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#">{info.replace("{digest}", digest)}'
            f"<ds:SignatureValue>{value}</ds:SignatureValue>"
            f"<ds:KeyInfo><ds:X509Data>{keys}</ds:X509Data></ds:KeyInfo></ds:Signature>"
        )
        return (text.removesuffix(_END) + signature + _END).encode()

    # What is signed are the canonical bytes of SignedInfo where it stands, so the document is read once without a value.
    placed = xml.parse(signed("")).elements()[-1].elements()[0]
    return signed(base64.b64encode(sign_raw(signer.key, placed.canonical())).decode())
