"""Texts of the app in eight languages, and texts of people that only look like them."""

import pytest

from sottovoce.device.chats import Message, import_chat

LRM = "\u200e"


def android(rest: str) -> Message:
    return import_chat(f"20/11/2026, 18:03 - {rest}".encode(), name="x.txt").messages[0]


def ios(rest: str) -> Message:
    return import_chat(f"[20/11/2026, 18:03:22] {rest}".encode(), name="x.txt").messages[0]


@pytest.mark.parametrize(
    "text",
    [
        "This message was deleted",
        "This message was deleted.",
        "You deleted this message",
        "This message was deleted by admin Anna",
        "Diese Nachricht wurde gelöscht.",
        "Du hast diese Nachricht gelöscht",
        "Se eliminó este mensaje",
        "Eliminaste este mensaje.",
        "Mensagem apagada",
        "Esta mensagem foi apagada",
        "Você apagou esta mensagem",
        "Ce message a été supprimé",
        "Vous avez supprimé ce message",
        "Questo messaggio è stato eliminato",
        "Hai eliminato questo messaggio.",
        "यह मैसेज डिलीट कर दिया गया है",
        "आपने यह मैसेज डिलीट किया",
        "Pesan ini dihapus",
        "Anda menghapus pesan ini",
    ],
)
def test_deleted(text: str) -> None:
    for message in (android(f"Anna: {text}"), ios(f"Anna: {LRM}{text}")):
        assert (message.kind, message.text, message.sender) == ("deleted", "", "Anna")


@pytest.mark.parametrize(
    "text",
    [
        "<Media omitted>",
        "<Video note omitted>",
        "<Medien ausgeschlossen>",
        "<Medien weggelassen>",
        "<Multimedia omitido>",
        "<Archivo omitido>",
        "<Mídia oculta>",
        "<Arquivo de mídia oculto>",
        "<Ficheiro não revelado>",
        "<Médias omis>",
        "<Média omis>",
        "<Fichier omis>",
        "<Media omessi>",
        "<Media omesso>",
        "<मीडिया के बिना>",
        "<Media tidak disertakan>",
        "null",
        "",
    ],
)
def test_omitted_on_android(text: str) -> None:
    message = android(f"Anna: {text}")
    assert (message.kind, message.text, message.sender) == ("media", "", "Anna")


@pytest.mark.parametrize(
    "text",
    [
        "image omitted",
        "GIF omitted",
        "sticker omitted",
        "audio omitted",
        "video omitted",
        "document omitted",
        "Contact card omitted",
        "Bild weggelassen",
        "Video weggelassen",
        "Kontaktkarte ausgelassen",
        "imagen omitida",
        "Tarjeta de contacto omitida",
        "imagem ocultada",
        "áudio ocultado",
        "figurinha omitida",
        "image absente",
        "vidéo omise",
        "GIF retiré",
        "immagine omessa",
        "sticker non incluso",
        "इमेज शामिल नहीं है",
        "gambar tidak disertakan",
        "stiker tidak disertakan",
    ],
)
def test_omitted_on_ios(text: str) -> None:
    assert (ios(f"Anna: {LRM}{text}").kind, ios(f"Anna: {LRM}{text}").text) == ("media", "")
    captioned = ios(f"Anna: Our view tonight {LRM}{text}")
    assert (captioned.kind, captioned.text) == ("media", "Our view tonight")


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("IMG-20261120-WA0001.jpg (file attached)", ""),
        ("IMG-20261120-WA0001.jpg (file attached)\nOur view\ntonight", "Our view\ntonight"),
        ("Letter to Ms. X.pdf (file attached)", ""),
        ("PTT-20261120-WA0002.opus (Datei angehängt)", ""),
        ("VID-20261120-WA0002.mp4 (archivo adjunto)", ""),
        ("STK-20261120-WA0002.webp (arquivo anexado)", ""),
        ("Plan.docx (fichier joint)", ""),
        ("Plan.docx (file allegato)", ""),
        ("Plan.docx (फ़ाइल अटैच की गई)", ""),
        ("Plan.docx (file terlampir)", ""),
        ("IMG-20261120-WA0001.jpg (bestand bijgevoegd)", ""),  # a language that is not in the list
    ],
)
def test_attached_on_android(text: str, caption: str) -> None:
    assert (android(f"Anna: {text}").kind, android(f"Anna: {text}").text) == ("media", caption)


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        (f"{LRM}<attached: 00000042-PHOTO-2026-11-20-18-03-22.jpg>", ""),
        (f"Our view {LRM}<attached: 00000042-PHOTO-2026-11-20-18-03-22.jpg>", "Our view"),
        (f"{LRM}<Anhang: 00000042-AUDIO-2026-11-20-18-03-22.opus>", ""),
        (f"{LRM}<adjunto: 00000042-PHOTO-2026-11-20-18-03-22.jpg>", ""),
        (f"{LRM}<anexado: 00000042-PHOTO-2026-11-20-18-03-22.jpg>", ""),
        (f"{LRM}<pièce jointe : 00000042-PHOTO-2026-11-20-18-03-22.jpg>", ""),
        (f"{LRM}<allegato: 00000042-PHOTO-2026-11-20-18-03-22.jpg>", ""),
        (f"{LRM}<अटैच किया गया: 00000042-PHOTO-2026-11-20-18-03-22.jpg>", ""),
        (f"{LRM}<terlampir: 00000042-PHOTO-2026-11-20-18-03-22.jpg>", ""),
        (f"{LRM}<bijgevoegd: 00000042-PHOTO-2026-11-20-18-03-22.jpg>", ""),  # not in the list
        (f"Plan.pdf • {LRM}3 pages {LRM}<attached: 00000042-Plan.pdf>", "Plan.pdf • 3 pages"),
        (f"Plan.pdf • {LRM}3 pages {LRM}document omitted", "Plan.pdf • 3 pages"),
    ],
)
def test_attached_on_ios(text: str, caption: str) -> None:
    assert (ios(f"Anna: {text}").kind, ios(f"Anna: {text}").text) == ("media", caption)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("location: https://maps.google.com/?q=48.2,16.37", ""),
        (f"{LRM}Location: https://maps.google.com/?q=-48.2,16.37", ""),
        ("Standort: https://maps.google.com/?q=48.2,16.37", ""),
        ("ubicación: https://maps.google.com/?q=48.2,16.37", ""),
        ("localização: https://maps.google.com/?q=48.2,16.37", ""),
        (f"{LRM}Location: Café Miro (Mill Lane 3): https://foursquare.com/v/4c1f", "Café Miro, Mill Lane 3"),
        (f"{LRM}Location: Café Miro: https://foursquare.com/v/4c1f", "Café Miro"),
    ],
)
def test_places(text: str, place: str) -> None:
    assert (ios(f"Anna: {text}").kind, ios(f"Anna: {text}").text) == ("media", place)


@pytest.mark.parametrize(
    "text",
    [
        "let us meet here https://maps.google.com/?q=48.2,16.37",
        "location: the usual one",
        "Location: https://example.org/",
    ],
)
def test_not_a_shared_place(text: str) -> None:
    assert (android(f"Anna: {text}").kind, android(f"Anna: {text}").text) == ("text", text)


@pytest.mark.parametrize(
    "mark",
    [
        "<This message was edited>",
        "<Diese Nachricht wurde bearbeitet.>",
        "<Se editó este mensaje.>",
        "<Mensagem editada>",
        "<Ce message a été modifié>",
        "<Questo messaggio è stato modificato>",
        "<Pesan ini diedit>",
    ],
)
def test_edited(mark: str) -> None:
    for message in (android(f"Anna: at <six> {mark}"), ios(f"Anna: at <six> {LRM}{mark}")):
        assert (message.kind, message.text, message.edited) == ("text", "at <six>", True)
    assert not android("Anna: at <six>").edited


ENCRYPTION = (
    "Messages and calls are end-to-end encrypted. No one outside of this chat, not even WhatsApp, can read them.",
    "Messages to this chat and calls are now secured with end-to-end encryption. Tap for more info.",
    "Nachrichten und Anrufe sind Ende-zu-Ende-verschlüsselt. Niemand außerhalb dieses Chats kann sie lesen.",
    "Los mensajes y las llamadas están cifrados de extremo a extremo. Nadie fuera de este chat puede leerlos.",
    "As mensagens e as chamadas são protegidas com a criptografia de ponta a ponta.",
    "As mensagens e chamadas são encriptadas ponto a ponto.",
    "Les messages et les appels sont chiffrés de bout en bout. Aucun tiers ne peut les lire.",
    "I messaggi e le chiamate sono crittografati end-to-end. Nessuno al di fuori di questa chat può leggerli.",
    "मैसेजेस और कॉल्स एंड-टू-एंड एन्क्रिप्टेड हैं. इस चैट में शामिल लोगों के अलावा कोई भी इन्हें पढ़ नहीं सकता.",
    "Pesan dan panggilan terenkripsi secara end-to-end. Tidak seorang pun di luar chat ini dapat membacanya.",
)


@pytest.mark.parametrize("text", ENCRYPTION)
def test_encryption_notice(text: str) -> None:
    assert (android(text).kind, android(text).sender) == ("system", "")
    notice = import_chat(f"[20/11/2026, 18:03:22] Book club: {LRM}{text}".encode(), name="_chat.txt")
    assert (notice.messages[0].kind, notice.title) == ("system", "Book club")


@pytest.mark.parametrize(
    "text",
    [
        "Anna created this group",
        'Anna created group "Plan"',
        "Anna added Ben",
        "Anna added you",
        "Anna removed Ben",
        "Anna left",
        "Ben joined using a group link.",
        "Anna changed the subject to “Plan”",
        "Anna changed this group's icon",
        "Anna changed the group description",
        "Anna changed their phone number. Tap to message or add the new number.",
        "Anna pinned a message",
        "You're now an admin",
        "Anna turned on disappearing messages. New messages will disappear after 24 hours.",
        "Your security code with Anna changed. Tap to learn more.",
        "Missed video call",
        "Missed voice call. Tap to call back",
        "Verpasster Sprachanruf",
        "Llamada perdida",
        "Chamada de voz perdida",
        "Appel vocal manqué",
        "Chiamata vocale persa",
        "Panggilan suara tak terjawab",
        "Anna hat die Gruppe „Plan“ erstellt",
        "Anna hat Ben hinzugefügt",
        "Anna hat die Gruppe verlassen",
        "Anna hat das Gruppenbild geändert",
        "Anna hat eine Nachricht angeheftet",
        "Anna creó el grupo “Plan”",
        "Anna añadió a Ben",
        "Anna salió del grupo",
        "Anna cambió el ícono de este grupo",
        "Anna fijó un mensaje",
        "Anna criou o grupo “Plan”",
        "Anna adicionou Ben",
        "Anna saiu",
        "Anna mudou a imagem do grupo",
        "Anna a créé le groupe “Plan”",
        "Anna a ajouté Ben",
        "Anna a quitté le groupe",
        "Anna a épinglé un message",
        "Anna ha creato il gruppo “Plan”",
        "Anna ha aggiunto Ben",
        "Anna ha abbandonato",
        "Anna ने ग्रुप “Plan” बनाया",
        "Anna ने Ben को जोड़ा",
        "Anna membuat grup “Plan”",
        "Anna menambahkan Ben",
        "Anna keluar",
    ],
)
def test_events(text: str) -> None:
    assert (android(text).kind, android(text).sender, android(text).text) == ("system", "", text)
    assert (ios(f"Anna: {LRM}{text}").kind, ios(f"Anna: {LRM}{text}").text) == ("system", text)


@pytest.mark.parametrize(
    "text",
    [
        "I left and Anna added me",
        "Anna added Ben",
        "she changed the subject again",
        "this message was deleted, I think",
        "the image omitted the best part",
        "missed voice calls are the worst",
        "missed voice call from you?",
        "messages are fun",
        "<3",
        "see <b>this</b>",
        "look (file attached)",
        "I wrote <This message was edited> in the middle",
        "nullpointer",
    ],
)
def test_people_may_write_about_it(text: str) -> None:
    for message in (android(f"Anna: {text}"), ios(f"Anna: {text}")):
        assert (message.kind, message.text, message.sender) == ("text", text, "Anna")


def test_polls_are_text() -> None:
    message = ios(
        f"Anna: {LRM}POLL:\nAdded to the list?\n{LRM}OPTION: Yes ({LRM}2 votes)\n{LRM}OPTION: No ({LRM}0 votes)"
    )
    assert message.kind == "text"
    assert message.text == "POLL:\nAdded to the list?\nOPTION: Yes (2 votes)\nOPTION: No (0 votes)"


def test_long_texts_stay_cheap() -> None:
    # Patterns with a star inside must not go over a long text again and again.
    for filler in (" ", "(", "<", "hat ", f"{LRM}", "a.b ", "location: ("):
        assert android(f"Anna: {LRM}{filler * 200_000}x").kind == "text"
