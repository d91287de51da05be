# ruff: noqa: RUF001 - the letters and quotation marks of eight languages
"""What the app writes by itself, in English, German, Spanish, Portuguese, French, Italian, Hindi and Indonesian.

Two kinds of lists. Exact texts (deleted, omitted, edited, encryption notice, missed call) are taken as the app's
wherever they are a whole message. Loose ones (somebody added somebody) are only looked for where the app may have
written: a person may well type "Anna added me".
"""

import re
from typing import Final

from sottovoce.device.chats.formats import LRM

__all__ = [
    "attachment_caption",
    "ends_with_omitted",
    "is_call",
    "is_content",
    "is_deleted",
    "is_encryption_notice",
    "is_event",
    "is_event_with_a_name",
    "is_omitted",
    "place",
    "without_edited",
]


_LONGEST: Final = 500
"""What the app writes is shorter; and no pattern here gets to work on a long text. Most patterns are in lower case
and see the text in lower case: ignoring case in the pattern takes twice as long."""


def _any(*alternatives: str) -> str:
    return "(?:" + "|".join(alternatives) + ")"


_DELETED: Final = re.compile(
    _any(
        r"this message was deleted(?: by admin .{1,100})?",
        "you deleted this message(?: as admin)?",
        "diese nachricht wurde (?:von admin .{1,100} )?gelöscht",
        "du hast diese nachricht (?:als admin )?gelöscht",
        "(?:se eliminó|eliminaste) este mensaje",
        "este mensaje fue eliminado(?: por .{1,100})?",
        "mensaje eliminado",
        "mensagem (?:apagada|eliminada)",
        "esta mensagem foi (?:apagada|eliminada)(?: p.{1,100})?",
        "(?:você )?(?:apagou|eliminou) esta mensagem",
        "ce message a été supprimé(?: par .{1,100})?",
        "(?:vous avez|tu as) supprimé ce message",
        "questo messaggio è stato eliminato(?: da .{1,100})?",
        "hai eliminato questo messaggio",
        "यह (?:मैसेज|संदेश) (?:डिलीट कर दिया गया है|डिलीट किया गया(?: है| था)?|मिटाया गया(?: था)?)",
        "आपने यह (?:मैसेज|संदेश) (?:डिलीट (?:किया|कर दिया)(?: है)?|मिटाया)",
        "pesan ini (?:telah )?dihapus(?: oleh .{1,100})?",
        "anda (?:telah )?menghapus pesan ini",
    )
    + r"[.।]?",
)

_EDITED: Final = re.compile(
    r"<"
    + _any(
        "this message was edited",
        "diese nachricht wurde bearbeitet",
        "se editó este mensaje",
        "mensaje editado",
        "mensagem editada",
        "esta mensagem foi editada",
        "ce message a été modifié",
        "(?:questo )?messaggio (?:è stato )?modificato",
        "(?:इस मैसेज को|यह मैसेज) (?:एडिट|संपादित) किया गया(?: है| था)?",
        "pesan ini (?:telah )?diedit",
    )
    + r"[.।]?>$",
    re.IGNORECASE,
)

_OMITTED: Final = _any(
    "(?:media|image|photo|video|video note|audio|voice message|gif|sticker|document|contact card|poll) omitted",
    "(?:medien|medium|bild|foto|video|videonotiz|videonachricht|audio|gif|sticker|dokument|kontaktkarte|kontakt) "
    "(?:ausgeschlossen|weggelassen|ausgelassen)",
    "(?:multimedia|medios|archivo|imagen|foto|v[ií]deo|nota de v[ií]deo|audio|gif|sticker|pegatina|documento"
    "|tarjeta de contacto|contacto) omitid[oa]s?",
    "(?:m[íi]dia|arquivo de m[íi]dia|imagem|foto|v[íi]deo|mensagem de v[íi]deo|[áa]udio|gif|figurinha|sticker"
    "|documento|cartão d[eo] contato|contacto) (?:ocult[oa]|ocultad[oa]|omitid[oa])",
    "ficheiro não revelado",
    "(?:médias?|fichier|image|photo|vidéo|note vidéo|audio|gif|sticker|autocollant|document|carte de contact"
    "|fiche (?:de )?contact) (?:omis|omise|absent|absente|retiré|retirée)",
    "(?:media|immagine|foto|video|videomessaggio|audio|gif|sticker|adesivo|documento|scheda contatto"
    "|biglietto da visita|contatto) (?:omess[oai]|non inclus[oa])",
    "(?:मीडिया|इमेज|फ़ोटो|फोटो|चित्र|वीडियो|ऑडियो|gif|जीआईएफ|स्टिकर|दस्तावेज़|डॉक्यूमेंट|संपर्क कार्ड) "
    "(?:के बिना|शामिल नहीं(?: है| किया गया)?|छोड़ा गया|छोड़ी गई|छोड़ दिया गया|हटाया गया|हटाई गई)",
    "(?:media|gambar|foto|video|catatan video|audio|gif|stiker|dokumen|kartu kontak) tidak (?:disertakan|dimasukkan)",
)
_IS_OMITTED: Final = re.compile(rf"<?\s*{_OMITTED}\s*>?[.।]?|null")
_ENDS_WITH_OMITTED: Final = re.compile(rf"\u200e<?{_OMITTED}>?$", re.IGNORECASE)

# iOS numbers the files of an export, so that its form is known in every language.
_ATTACHED_IOS: Final = re.compile(
    r"<(?:(?:attached|angehängt|anhang|adjunto|anexo|anexado|pièce jointe|joint|allegato|अटैच किया गया|संलग्न|terlampir)"
    r"\s?:\s?[^<>\n]{1,255}|[^<>:\n]{1,40}:\s?\d{8}-[^<>\n]{1,255})>",
    re.IGNORECASE,
)
_ATTACHED_ANDROID: Final = re.compile(
    r"(?:[^\n]{1,255}\.\w{1,8} \((?:file attached|datei angehängt|archivo adjunto|archivo adjuntado|arquivo anexado"
    r"|ficheiro anexado|fichier joint|file allegato|फ़ाइल (?:अटैच|संलग्न)[^()\n]{0,30}|फाइल (?:अटैच|संलग्न)[^()\n]{0,30}"
    r"|file terlampir|berkas terlampir)\)"
    r"|(?:IMG|VID|AUD|PTT|STK|DOC)-\d{8}-WA\d{4}\.\w{1,8} \([^()\n]{1,40}\))(?:\n|$)",
    re.IGNORECASE,
)

# Each run of spaces is gone through once, from where it begins: three parts that could share one out between them
# would take the length of the text cubed.
_PLACE: Final = re.compile(
    r"(?:live location|location|live-standort|standort|ubicación(?: en tiempo real)?|localização(?: em tempo real)?"
    r"|localisation|position|posizione|लाइव लोकेशन|लोकेशन|स्थान|lokasi)\s?:\s*+(?P<place>[^\n]*?)"
    r"(?:\s?\((?P<address>[^()\n]*+)\):?\s*+|:\s*+|(?:(?<!\s)\s++)?+)https://(?:www\.)?(?:maps\.google\.com|maps\.apple\.com|foursquare\.com)/\S*",
    re.IGNORECASE,
)

_ENCRYPTION: Final = re.compile(
    _any(
        r"(?:your )?(?:messages|chats)[^.\n]{0,60} (?:are|is) (?:now )?(?:secured with )?end-to-end encrypt",
        r"(?:deine )?nachrichten[^.\n]{0,80} ende-zu-ende-verschlüssel",
        r"(?:los|tus) mensajes[^.\n]{0,80} cifra(?:d[oa]s|do) de extremo a extremo",
        r"(?:as |suas )?(?:mensagens|chamadas)[^.\n]{0,100} (?:criptografia de ponta|encriptadas (?:de )?pont[ao])",
        r"(?:les|vos) messages[^.\n]{0,100} (?:chiffré|chiffrement)",
        r"i (?:tuoi )?messaggi[^.\n]{0,100} (?:crittograf)",
        r"(?:मैसेज|मैसेजेस|संदेश|आपके द्वारा)[^.।\n]{0,120} एन्?क्रिप्",
        r"pesan[^.\n]{0,80} (?:terenkripsi|enkripsi)[^.\n]{0,40} end-to-end|pesan[^.\n]{0,80} end-to-end",
    ),
)

_CALL: Final = re.compile(
    _any(
        r"(?:missed|silenced) (?:group )?(?:voice|video) call",
        "verpasster? (?:gruppen)?(?:sprach|video)anruf",
        "(?:llamada (?:grupal )?(?:de voz|de video)|videollamada) (?:grupal )?perdida",
        "(?:llamada|videollamada) perdida",
        "(?:chamada|ligação) (?:de (?:voz|vídeo)(?: em grupo)? )?perdida",
        "appel (?:vocal|vidéo)(?: de groupe)? manqué",
        "(?:chiamata vocale|videochiamata|chiamata)(?: di gruppo)? persa",
        "(?:छूटी हुई|मिस्ड) (?:वॉइस|वॉयस|वीडियो) कॉल|(?:वॉइस|वॉयस|वीडियो) कॉल छूटी?",
        "panggilan (?:suara|video)(?: grup)? tak terjawab",
    )
    + r"(?:[.,।][^\n]{0,60})?",
)

_EVENTS: Final = re.compile(
    _any(
        # English
        r"\b(?:created|deleted) (?:this |the )?(?:group|community)\b",
        r"\b(?:added|removed|invited) \S",
        r"\bwas (?:added|removed)$|\bwere (?:added|removed)\b",
        r"\bleft$|\bjoined\b.*(?:link|group|community|invite)|\bjoined$|\brequested to join\b",
        r"\bchanged (?:the|this|their|your|to|his|her)\b|\breset th(?:e|is) .*link\b",
        r"\bpinned a message\b|\bdisappear|\bmessage timer\b|\bsecurity code\b",
        r"\badmins?\b|\bblocked\b|\bis a contact\b|^(?:voice|video) call\b|\bstarted a .*call\b|^waiting for this message\b",
        # German
        r"\b(?:hat|hast|haben|wurde|wurdest|ist|bist)\b.*\b(?:hinzugefügt|entfernt|erstellt|geändert|verlassen|beigetreten"
        r"|angeheftet|angepinnt|gewechselt|aktiviert|deaktiviert|eingeladen|blockiert|gelöscht)\b",
        r"\bselbstlöschende\b|\bsicherheitsnummer\b|\badministrator",
        # Spanish
        r"\b(?:creó|creaste|añadió|añadiste|agregó|agregaste|eliminó a|sacó a|salió|saliste|cambió|cambiaste|fijó|fijaste"
        r"|activó|activaste|desactivó|desactivaste|bloqueaste|desbloqueaste)\b",
        r"\bse (?:unió|añadió|cambió)\b|\bmensajes temporales\b|\bcódigo de seguridad\b|\badmin",
        # Portuguese
        r"\b(?:criou|adicionou|removeu|saiu|entrou|mudou|alterou|fixou|ativou|desativou|bloqueou|desbloqueou)\b",
        r"\b(?:foi|você foi) (?:adicionad|removid)[oa]\b|\bmensagens temporárias\b|\bcódigo de segurança\b",
        # French
        r"\b(?:a|as|avez|est) (?:créé|ajouté|retiré|supprimé|quitté|changé|modifié|épinglé|rejoint|activé|désactivé|bloqué)",
        r"\bmessages éphémères\b|\bcode de sécurité\b",
        # Italian
        r"\b(?:ha|hai) (?:creato|aggiunto|rimosso|abbandonato|lasciato|cambiato|modificato|fissato|attivato|disattivato"
        r"|bloccato|sbloccato|eliminato)\b|\bsi è unit[oa]\b|\bè (?:uscit|entrat)[oa]\b|\bmessaggi effimeri\b"
        r"|\bcodice di sicurezza\b",
        # Hindi
        "ने.*(?:जोड़ा|हटाया|हटा दिया|बनाया|बदला|बदल दिया|छोड़ा|छोड़ दिया|पिन किया|चालू किया|बंद किया)|ग्रुप छोड़|शामिल हुए|डिसअपियरिंग|सुरक्षा कोड",
        # Indonesian
        r"\b(?:membuat (?:grup|komunitas)|menambahkan|mengeluarkan|menghapus \S|keluar$|telah keluar|bergabung|mengubah"
        r"|menyematkan|mengaktifkan|menonaktifkan|memblokir)\b|\bpesan sementara\b|\bkode keamanan\b",
    ),
)

_QUOTES: Final = frozenset('"“„«')

# An event that quotes a name of the user's choosing: ': ' in that name is no end of a sender.
_EVENT_WITH_A_NAME: Final = re.compile(
    _any(
        r"\bchanged (?:the (?:subject|group name|group description|community)|this group)",
        r"\b(?:created|deleted) (?:the |this )?(?:group|community)",
        r"\b(?:hat|hast|haben) (?:den betreff|den gruppennamen|die gruppe|die gruppenbeschreibung|die community)",
        r"\b(?:cambió|cambiaste|creó|creaste) (?:el|la) (?:asunto|nombre|grupo|descripción|comunidad)",
        r"\b(?:mudou|alterou|criou) (?:o|a) (?:assunto|nome|grupo|descrição|comunidade)",
        r"\b(?:a|avez|as) (?:changé|modifié|créé) (?:le|la|l['’])\s?(?:sujet|nom|objet|groupe|description|communauté)",
        r"\b(?:ha|hai) (?:cambiato|modificato|creato) (?:il|la|l['’])\s?(?:oggetto|nome|gruppo|descrizione|community)",
        "ने (?:ग्रुप|समूह|विषय|सब्जेक्ट)",
        r"\b(?:mengubah|membuat) (?:subjek|nama grup|grup|deskripsi|komunitas)",
    )
    + '.*["“„«]',
)


def is_deleted(text: str) -> bool:
    """Whether `text` stands where a deleted message was."""
    return len(text) <= _LONGEST and _DELETED.fullmatch(text.lower()) is not None


def without_edited(text: str) -> tuple[str, bool]:
    """`text` without the mark that it was edited, and whether it had one."""
    if not text.endswith(">"):
        return text, False
    rest = _EDITED.sub("", text)
    return rest.rstrip(f" {LRM}"), rest != text


def is_omitted(text: str) -> bool:
    """Whether `text` stands where a picture, a recording or a document was."""
    return len(text) <= _LONGEST and _IS_OMITTED.fullmatch(text.lower()) is not None


def ends_with_omitted(text: str) -> str | None:
    """The caption (or document's name) before a mark of omitted media, or None where there is no such mark."""
    # It is short and stands at the end.
    match = _ENDS_WITH_OMITTED.search(text, max(0, len(text) - _LONGEST)) if LRM in text else None
    return text[: match.start()] if match else None


def attachment_caption(text: str) -> str | None:
    """What was written beside an attached file, or None where none is attached."""
    if "<" in text and (match := _ATTACHED_IOS.search(text)):
        return f"{text[: match.start()]}\n{text[match.end() :]}".strip()
    if "(" in text and (match := _ATTACHED_ANDROID.match(text)):
        return text[match.end() :]
    return None


def place(text: str) -> str | None:
    """The name of a shared place (often empty), or None where `text` is no shared place."""
    match = _PLACE.fullmatch(text) if "https://" in text and len(text) <= _LONGEST else None
    if match is None:
        return None
    return ", ".join(part for part in match.group("place", "address") if part)


def is_encryption_notice(text: str) -> bool:
    """Whether `text` is the notice at the head of a chat."""
    return _ENCRYPTION.match(text[:_LONGEST].lower()) is not None


def is_call(text: str) -> bool:
    """Whether `text` tells of a missed call."""
    return len(text) <= _LONGEST and _CALL.fullmatch(text.lower()) is not None


def is_content(text: str) -> bool:
    """Whether `text` has a line break, a link or an attached file, as no event has."""
    return "\n" in text or "://" in text or text.endswith(">")


def is_event(text: str) -> bool:
    """Whether `text` reads like an event of the group. Ask only where the app may have written it."""
    return _EVENTS.search(text[:_LONGEST].lower()) is not None


def is_event_with_a_name(text: str) -> bool:
    """Whether `text`, up to a colon, is the beginning of an event that quotes a name rather than a sender."""
    # Hardly any sender has a quotation mark: this is asked for every message.
    return not _QUOTES.isdisjoint(text) and _EVENT_WITH_A_NAME.search(text[:_LONGEST].lower()) is not None
