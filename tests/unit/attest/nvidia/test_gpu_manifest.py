"""Reference manifests: only what is signed is read, in one way, and an attacker's XML is refused."""

import base64
import contextlib
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from nvidia_kit import NOW, vendor
from sottovoce.attest.nvidia import xml
from sottovoce.attest.nvidia.manifest import Manifest, unwrapped, verify_manifest
from sottovoce.attest.nvidia.signatures import GpuChainError, GpuSignatureError
from sottovoce.core.errors import DecodeError
from sottovoce.simulator.gpu_manifest import INFO, manifest_text, sign_manifest

ROOT = vendor().roots.manifests
GOLDEN = {1: (b"a" * 48,), 2: (b"b" * 48, b"c" * 48)}
TEXT = manifest_text("GH100", "590.12", GOLDEN)
GOOD = sign_manifest(TEXT, vendor().manifest_signer)
SIGNATURE = re.search(rb"<ds:Signature .*</ds:Signature>", GOOD, re.DOTALL)
assert SIGNATURE is not None
SIGNED = SIGNATURE[0]


def test_a_good_manifest() -> None:
    manifest = verify_manifest(GOOD, ROOT).manifest
    assert (manifest.product, manifest.version) == ("GH100", "590.12")
    assert {index: golden.digests for index, golden in manifest.golden.items()} == GOLDEN


def test_layout_between_the_parts_may_be_signed_too() -> None:
    loose = TEXT.replace("<ns0:Resource", "\r\n\t<ns0:Resource").replace('name="GH100"', "name\n=\n'GH100'")
    assert verify_manifest(sign_manifest(loose, vendor().manifest_signer), ROOT)
    declared = b'<?xml version="1.0" encoding="utf-8"?>\n' + GOOD + b"\n"
    assert verify_manifest(declared, ROOT)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("61" * 48, "62" * 48),
        ('active="True"', 'active="False"'),
        ('index="0"', 'index="7"'),
        ('colloquialVersion="590.12"', 'colloquialVersion="590.13"'),
        ('name="Simulated_0"', 'name="Simulated_9"'),
        ('patch="false"', 'patch="true"'),
        ("<ns0:Payload>", "<ns0:Payload >\n"),
        ('role="softwareCreator tagCreator"', 'role="tagCreator"'),
    ],
)
def test_any_change_after_signing(old: str, new: str) -> None:
    changed = GOOD.decode().replace(old, new, 1)
    assert changed != GOOD.decode()
    if (
        old == "<ns0:Payload>"
    ):  # white space within a tag is not part of what is signed, but the line behind it is
        changed = changed.replace(" >", ">")
    with pytest.raises(GpuSignatureError, match="changed after it was signed"):
        verify_manifest(changed.encode(), ROOT)


@pytest.mark.parametrize("part", ["DigestValue", "SignatureValue"])
def test_the_signatures_own_parts(part: str) -> None:
    match = re.search(f"<ds:{part}>([^<]*)<", GOOD.decode())
    assert match is not None
    value = bytearray(base64.b64decode(match[1]))
    for place in (0, len(value) // 2, len(value) - 1):
        other = bytearray(value)
        other[place] ^= 1
        text = GOOD.decode().replace(match[1], base64.b64encode(other).decode())
        with pytest.raises(GpuSignatureError):
            verify_manifest(text.encode(), ROOT)
    for wrong in (value[:-1], value + b"\0", b""):
        with pytest.raises(DecodeError):
            verify_manifest(GOOD.decode().replace(match[1], base64.b64encode(wrong).decode()).encode(), ROOT)


def test_a_signature_of_zeros() -> None:
    zeros = re.sub(
        r"(<ds:SignatureValue>)[^<]*", rf"\g<1>{base64.b64encode(bytes(96)).decode()}", GOOD.decode()
    )
    with pytest.raises(GpuSignatureError):
        verify_manifest(zeros.encode(), ROOT)


def resigned(old: str, new: str, **arguments: Any) -> bytes:
    """A manifest of another shape, signed by the genuine signer: what is refused is not the signature."""
    assert old in TEXT
    return sign_manifest(TEXT.replace(old, new), vendor().manifest_signer, **arguments)


def test_the_largest_that_there_may_be() -> None:
    manifest = verify_manifest(resigned('index="0"', 'index="254"'), ROOT).manifest
    assert set(manifest.golden) == {255, 2}
    text = manifest_text("GH100", "590.12", {1: (b"a" * 48,) * 16})
    golden = verify_manifest(sign_manifest(text, vendor().manifest_signer), ROOT).manifest.golden
    assert len(golden[1].digests) == 16
    with pytest.raises(DecodeError, match="out of range"):
        Manifest.parse(
            sign_manifest(manifest_text("GH100", "590.12", {1: (b"a" * 48,) * 17}), vendor().manifest_signer)
        )


@pytest.mark.parametrize(("count", "fits"), [(0, False), (1, True), (8, True), (9, False)])
def test_how_many_certificates_there_may_be(count: int, fits: bool) -> None:
    signer = vendor().manifest_signer
    data = sign_manifest(TEXT, replace(signer, chain=(signer.chain * 4)[:count]))
    if fits:
        assert len(Manifest.parse(data).certificates) == count
        return
    with pytest.raises(DecodeError, match="no certificates, or too many"):
        Manifest.parse(data)


def test_base64_with_other_characters() -> None:
    changed = GOOD.replace(b"<ds:SignatureValue>", b"<ds:SignatureValue>!")
    with pytest.raises(DecodeError, match="not base64"):
        Manifest.parse(changed)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('type="Measurement"', 'type="File"'),
        ('size="48"', 'size="32"'),
        ('active="True"', 'active="true"'),
        ('active="True"', 'active="1"'),
        ('active="True"', 'active="False"'),
        ('active="True" ', ""),
        ('index="0"', 'index="1"'),
        ('index="0"', 'index="00"'),
        ('index="0"', 'index="-1"'),
        ('index="0"', 'index="+1"'),
        ('index="0"', 'index="255"'),
        ('index="0"', 'index="٣"'),
        ('alternatives="2"', 'alternatives="1"'),
        ('alternatives="2"', 'alternatives="3"'),
        ('alternatives="1"', 'alternatives="0"'),
        ('alternatives="2"', 'alternatives="999"'),
        ("61" * 48, "61" * 47),
        ("61" * 48, "6g" * 48),
        ("61" * 48, ""),
        ('ns2:Hash0="' + "61" * 48, 'Hash0="' + "61" * 48),
        ('name="Simulated_0"', 'name="Simulated_0" nullable="True"'),
        ('corpus="false" name="GH100"', 'corpus="false" name="GB100"'),
        ('product="GH100"', 'product=""'),
        ('colloquialVersion="590.12"', 'version="590.12"'),
        ("<ns0:Payload>", "<ns0:Payload>text"),
        ("<ns0:Payload>", '<ns0:Payload><ns0:File name="x"/>'),
        ("</ns0:Payload>", "</ns0:Payload><ns0:Payload/>"),
        ("</ns0:Payload>", "</ns0:Payload><ns0:Evidence/>"),
        ("<ns0:Entity ", "<ns0:Link "),
        ("<ns0:Payload>", "<ns0:Payload><ns0:Resource/>"),
        ('size="48"/>', 'size="48"><ns0:Resource/></ns0:Resource>'),
    ],
)
def test_a_signed_manifest_of_another_shape(old: str, new: str) -> None:
    with pytest.raises(DecodeError):
        verify_manifest(resigned(old, new), ROOT)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384", "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha1"),
        ("http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384", "http://www.w3.org/2000/09/xmldsig#hmac-sha1"),
        ("http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384", "http://www.w3.org/2007/05/xmldsig-more#sha384-rsa-MGF1"),
        ("http://www.w3.org/2001/04/xmldsig-more#sha384", "http://www.w3.org/2000/09/xmldsig#sha1"),
        ("http://www.w3.org/2006/12/xml-c14n11", "http://www.w3.org/2001/10/xml-exc-c14n#"),
        ("http://www.w3.org/2006/12/xml-c14n11", "http://www.w3.org/2006/12/xml-c14n11#WithComments"),
        ("http://www.w3.org/2000/09/xmldsig#enveloped-signature", "http://www.w3.org/TR/1999/REC-xpath-19991116"),
        ("http://www.w3.org/2000/09/xmldsig#enveloped-signature", "http://www.w3.org/TR/1999/REC-xslt-19991116"),
        ('URI=""', 'URI="#other"'),
        ('URI=""', 'URI="file:///etc/passwd"'),
        ('URI=""', 'URI="" Id="x"'),
        (' URI=""', ""),
        ("</ds:Reference>", "</ds:Reference><ds:Reference/>"),
        ("</ds:Transforms>", "<ds:Transform/></ds:Transforms>"),
        ("<ds:DigestValue>{digest}</ds:DigestValue>", "<ds:DigestValue/><ds:DigestValue>{digest}</ds:DigestValue>"),
    ],
)  # fmt: skip
def test_signed_in_another_way(old: str, new: str) -> None:
    assert old in INFO
    with pytest.raises(DecodeError):
        verify_manifest(resigned("GH100", "GH100", info=INFO.replace(old, new, 1)), ROOT)


def evil() -> bytes:
    return TEXT.replace("61" * 48, "ee" * 48).encode()


def test_signature_wrapping() -> None:
    """Genuine signed content moved to where nobody reads it, another document in its place."""
    end = b"</SoftwareIdentity>"
    inside = GOOD.removesuffix(b"\n")
    bad = evil()
    for wrapped in (
        bad.replace(end, inside + end),
        bad.replace(end, SIGNED.replace(b"</ds:Signature>", b"<ds:Object>" + inside + b"</ds:Object></ds:Signature>") + end),
        bad.replace(b"<ns0:Payload>", b"<ns0:Payload>" + inside),
        bad.replace(end, SIGNED + SIGNED + end),
        GOOD.replace(end, b"<ns0:Payload/>" + end),
        GOOD.replace(SIGNED, b"").replace(b"<ns0:Payload>", SIGNED + b"<ns0:Payload>"),
        b"<wrap>" + GOOD + b"</wrap>",
        GOOD + bad,
    ):  # fmt: skip
        with pytest.raises(DecodeError):
            verify_manifest(wrapped, ROOT)
    with pytest.raises(GpuSignatureError):
        verify_manifest(bad.replace(end, SIGNED + end), ROOT)


def test_several_signatures() -> None:
    own = sign_manifest(TEXT, vendor().device_root.issue("Simulated attacker", now=NOW, authority=False))
    other = re.search(rb"<ds:Signature .*</ds:Signature>", own, re.DOTALL)
    assert other is not None
    for pair in (SIGNED + other[0], other[0] + SIGNED):
        with pytest.raises(DecodeError):
            verify_manifest(GOOD.replace(SIGNED, pair), ROOT)
    with pytest.raises(GpuChainError):
        verify_manifest(own, ROOT)


def test_no_signature_and_no_certificates() -> None:
    with pytest.raises(DecodeError):
        verify_manifest(TEXT.encode(), ROOT)
    without = re.sub(rb"<ds:X509Certificate>.*</ds:X509Certificate>", b"", GOOD)
    with pytest.raises(DecodeError):
        verify_manifest(without, ROOT)
    keyed = GOOD.replace(b"<ds:KeyInfo>", b"<ds:KeyInfo><ds:KeyName>x</ds:KeyName>")
    with pytest.raises(DecodeError):
        verify_manifest(keyed, ROOT)


@pytest.mark.parametrize(
    "prefix",
    [
        '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>',
        '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">',
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE SoftwareIdentity [<!ATTLIST SoftwareIdentity patch CDATA "true">]>',
        "<!DOCTYPE x [<!ENTITY % p SYSTEM 'file:///etc/passwd'> %p;]>",
        "<!-- comment -->",
        "<?stylesheet x?>",
        '<?xml version="1.1"?>',
        '<?xml version="1.0" encoding="iso-8859-1"?>',
        '<?xml version="1.0" encoding="utf-16"?>',
    ],
)
def test_documents_with_parts_of_other_kinds(prefix: str) -> None:
    with pytest.raises(DecodeError):
        verify_manifest(prefix.encode() + GOOD, ROOT)


@pytest.mark.parametrize(
    "document",
    [
        "",
        " ",
        "<a>",
        "<a></b>",
        "<a/><b/>",
        "<a>&unknown;</a>",
        "<a>&#0;</a>",
        "<a><![CDATA[x]]></a>",
        "<a><!-- x --></a>",
        "<a><?x y?></a>",
        "<a b='1' b='2'/>",
        "<p:a/>",
        "<a p:b='1'/>",
        "<a xml:lang='en'/>",
        "<a xml:space='preserve'/>",
        "<a xmlns:p='' p:b='1'/>",
        "<a xmlns=''/>",
        "<a xmlns='relative'/>",
        "<a xmlns='urn:é'/>",
        "<a xmlns='urn:x&amp;y'/>",
        "<a xmlns='urn:x&lt;y'/>",
        "<a xmlns='urn:x&gt;y'/>",
        "<a xmlns='urn:x&quot;y'/>",
        "<a xmlns='urn:a b'/>",
        "<a xmlns:='urn:x'/>",
        "<a xmlns:xml='http://www.w3.org/XML/1998/namespace'/>",
        "<a xmlns:xmlns='urn:x'/>",
        "<a:b:c xmlns:a='urn:x'/>",
        "<:a/>",
        "<:a xmlns='urn:x'/>",
        "<p: xmlns:p='urn:x'/>",
        "<a xmlns:p='urn:x' p:='1'/>",
        "<p:q:r xmlns:p:q='urn:x'/>",
        "<a xmlns:p:q='urn:x' p:q:r='1'/>",
        "<a xmlns:p='urn:x' xmlns:q='urn:x' p:b='1' q:b='2'/>",
        "<a>" * 13 + "</a>" * 13,
        "<a>" + "<b/>" * 2001 + "</a>",
        "<a " + " ".join(f"b{number}=''" for number in range(41)) + "/>",
        "<a>" + "x" * 256 * 1024 + "</a>",
        "<a" * 100_000,
        "\ufeff\ufeff<a/>",
    ],
)
def test_documents_that_are_refused(document: str) -> None:
    with pytest.raises(DecodeError):
        xml.parse(document.encode())


@pytest.mark.parametrize(
    ("largest", "more"),
    [
        ("<a>" * 12 + "</a>" * 12, "<a>" * 13 + "</a>" * 13),
        ("<a>" + "<b/>" * 1999 + "</a>", "<a>" + "<b/>" * 2000 + "</a>"),
        (
            "<a " + " ".join(f"b{number}=''" for number in range(40)) + "/>",
            "<a " + " ".join(f"b{number}=''" for number in range(41)) + "/>",
        ),
        ("<a>" + "x" * (xml.MAX_DOCUMENT - 7) + "</a>", "<a>" + "x" * (xml.MAX_DOCUMENT - 6) + "</a>"),
    ],
)
def test_the_largest_documents(largest: str, more: str) -> None:
    assert xml.parse(largest.encode()).written == "a"
    with pytest.raises(DecodeError, match="limit"):
        xml.parse(more.encode())


def test_names_and_text() -> None:
    root = xml.parse(b"<a b='1' xmlns:p='urn:x' p:c='2'>x&amp;y&#10;z<p:d/></a>")
    assert root.name == ("", "a")
    assert root.attributes == {("", "b"): "1", ("urn:x", "c"): "2"}
    with pytest.raises(DecodeError, match="an element where none may be"):
        root.text()
    with pytest.raises(DecodeError, match="text where none may be"):
        root.elements()
    part = xml.parse(b"<a xmlns='urn:y'>x&amp;y&#10;z</a>")
    assert (part.name, part.text()) == (("urn:y", "a"), "x&y\nz")
    (only,) = xml.parse(b"<a>\n<p:d xmlns:p='urn:x'/>\t</a>").elements()
    assert only.name == ("urn:x", "d")


@pytest.mark.parametrize(
    "data",
    [b"\xff\xfe<\0a\0/\0>\0", b"<\0a\0/\0>\0", b"<a>\xff</a>", b"<a>\xc0\x80</a>", b"<a>\xed\xa0\x80</a>"],
)
def test_other_encodings(data: bytes) -> None:
    with pytest.raises(DecodeError):
        xml.parse(data)


# Written after the rules of Canonical XML 1.1 section 2.3, with each kind of thing that our documents may have; libxml2 decides.
CANONICAL = [
    "<a/>",
    "<a  b = '1'   a=\"2\"></a >",
    "<a>\r\n \t&#13;&#10;&amp;&lt;&gt;\"'&#x41;é</a>",
    "<a b='&#9;&#10;&#13; &amp;&lt;>&quot;&#39;'/>",
    "<a b='x\ny\tz'/>",
    "<a xmlns='urn:x' xmlns:b='urn:b' xmlns:a='urn:a' z='1' b:z='2' a:z='3'><b:c xmlns='urn:x'/></a>",
    "<n0:a xmlns:n0='urn:x'><n0:b xmlns:n0='urn:y'><n0:c xmlns:n0='urn:x'/></n0:b></n0:a>",
    "<a xmlns:b='urn:b'><c xmlns:b='urn:b' xmlns:d='urn:d' d:e='1' b:f='2'/></a>",
    "<a xmlns='urn:x'><b xmlns='urn:y'><c xmlns='urn:y'/><d xmlns='urn:x'/></b></a>",
    "<?xml version='1.0' standalone='yes'?>\n<a>\n  <b/>\n</a>\n",
    "<a xmlns:é='urn:e?x=1' é:b='ü'/>",
]


@pytest.mark.parametrize("document", CANONICAL)
def test_canonical_form(document: str) -> None:
    ours, theirs = xml.parse(document.encode()), etree.fromstring(document.encode())
    assert ours.canonical() == etree.tostring(theirs, method="c14n")


@pytest.mark.parametrize("document", [CANONICAL[number] for number in (5, 6, 7, 8)])
def test_canonical_form_of_a_part(document: str) -> None:
    (mine, *_), (other, *_) = (
        xml.parse(document.encode()).elements(),
        list(etree.fromstring(document.encode())),
    )
    assert mine.canonical() == etree.tostring(other, method="c14n")


NAMES = st.sampled_from(["a", "b", "p:a", "p:b", "q:a"])
VALUES = st.text(st.sampled_from("x \t\n\r&<>\"'é\u2028"), max_size=6)


def escaped(text: str) -> str:
    return "".join(f"&#{ord(one)};" if one in "&<>\"'\t\n\r" else one for one in text)


TREES = st.recursive(
    st.builds(escaped, VALUES),
    lambda inner: st.builds(
        lambda name, attributes, scope, children: (
            f"<{name}{scope}"
            + "".join(f' {key}="{escaped(value)}"' for key, value in attributes.items())
            + f">{''.join(children)}</{name}>"
        ),
        NAMES,
        st.dictionaries(st.sampled_from(["a", "z", "p:a", "p:z", "q:c"]), VALUES, max_size=3),
        st.sampled_from(["", ' xmlns="urn:1"', ' xmlns:p="urn:2"', ' xmlns="urn:2" xmlns:q="urn:3"']),
        st.lists(inner, max_size=3),
    ),
    max_leaves=8,
)


@given(TREES)
def test_any_document_of_our_kind_has_libxml2s_canonical_form(inner: str) -> None:
    document = f'<r xmlns:p="urn:p" xmlns:q="urn:q">{inner}</r>'.encode()
    try:
        ours = xml.parse(document)
    except DecodeError:  # deeper than our limit
        return
    assert ours.canonical() == etree.tostring(etree.fromstring(document), method="c14n")


@given(st.text(st.sampled_from("<>/ab='\" &;!?[]-:xmlns\n"), max_size=60))
def test_no_text_raises_anything_else(text: str) -> None:
    for step in (xml.parse, Manifest.parse):
        try:
            step(text.encode())
        except DecodeError:
            continue


def answer(**changes: Any) -> bytes:
    """What the vendor's service answers."""
    body = {"id": "NV_GPU_DRIVER_GH100_590.12", "rim": base64.b64encode(GOOD).decode(), "sha256": "0", "rim_format": "TCG"}  # fmt: skip
    return json.dumps({**body, **changes}).encode()


def test_the_answer_of_the_vendors_service() -> None:
    assert unwrapped(GOOD) == GOOD
    for file in (answer(), b"\n " + answer(), answer(rim_format=None, other=[1])):
        assert unwrapped(file) == GOOD


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (answer(rim="!"), "not base64"),
        (answer(rim="AAA"), "not base64"),
        (answer(rim=None), "holds no manifest"),
        (answer(rim=[]), "holds no manifest"),
        (b"{}", "holds no manifest"),
        (b"{", "not JSON"),
        (b"{\xff}", "not JSON"),
        (b'{"a":' * 100_000, "not JSON"),
        (answer(more="A" * 2 * xml.MAX_DOCUMENT), "longer than its limit"),
    ],
)
def test_what_is_no_such_answer(file: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        unwrapped(file)


def test_the_longest_answer() -> None:
    longest = answer().ljust(2 * xml.MAX_DOCUMENT)
    assert unwrapped(longest) == GOOD
    with pytest.raises(DecodeError, match="longer than its limit"):
        unwrapped(longest + b" ")


@given(st.binary(max_size=200).map(lambda data: b"{" + data))
def test_no_answer_raises_anything_else(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        unwrapped(data)


@pytest.mark.parametrize(
    "data", [b"", b"<a>", b"<a></b>", b"text", b"<a/><b/>", b"<a b='1' b='2'/>", b"<a:b/>\xff"[:6]]
)
def test_what_is_no_xml(data: bytes) -> None:
    with pytest.raises(DecodeError) as refused:
        xml.parse(data)
    assert str(refused.value) in {
        "the document is not well-formed XML",
        "the XML document has a name of an unknown namespace",
    }


def test_text_of_an_element() -> None:
    """Text comes in pieces where a reference stands; white space is XML's four, and nothing else may stand between elements."""
    root = xml.parse(b"<a>one&amp;two&#13;</a>")
    assert root.text() == "one&two\r"
    root.children[:] = ["one", "two"]
    assert root.text() == "onetwo"
    assert xml.parse(b"<a> \t\r\n<b/>&#13;</a>").elements()
    for between in ("\u00a0", "\u2003", "\x0b", "X"):
        with pytest.raises(DecodeError, match="text where none may be"):
            xml.Element(
                name=("", "a"),
                written="a",
                attributes={},
                written_attributes={},
                scope={},
                children=[between],
            ).elements()


def test_an_empty_namespace_is_written_where_one_stood_above() -> None:
    document = b'<a xmlns="urn:a"><b xmlns=""></b></a>'
    with pytest.raises(DecodeError):
        xml.parse(document)


def test_the_longest_document_is_named() -> None:
    with pytest.raises(DecodeError, match="the XML document is longer than its limit"):
        xml.parse(b"<a>" + b" " * xml.MAX_DOCUMENT + b"</a>")
