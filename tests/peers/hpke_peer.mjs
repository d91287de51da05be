// The other side of test_hpke.py: @hpke/core with X-Wing. Bytes travel in hex.
import { createInterface } from 'node:readline';
import { Aes128Gcm, Aes256Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from '@hpke/core';
import { Chacha20Poly1305 } from '@hpke/chacha20poly1305';
import { XWing } from '@hpke/hybridkem-x-wing';

const kems = { 0x0020: DhkemX25519HkdfSha256, 0x647a: XWing };
const aeads = { 1: Aes128Gcm, 2: Aes256Gcm, 3: Chacha20Poly1305 };
const hex = (bytes) => Buffer.from(bytes).toString('hex');
// A copy in an ArrayBuffer of its own: Buffer.from shares a pool.
const bytes = (text) => new Uint8Array(Buffer.from(text, 'hex')).buffer;

const suiteOf = ({ kem, aead }) =>
    new CipherSuite({ kem: new kems[kem](), kdf: new HkdfSha256(), aead: new aeads[aead]() });

const actions = {
    async generate(command) {
        const { kem } = suiteOf(command);
        const pair = await kem.generateKeyPair();
        return {
            private: hex(await kem.serializePrivateKey(pair.privateKey)),
            public: hex(await kem.serializePublicKey(pair.publicKey)),
        };
    },
    async seal(command) {
        const suite = suiteOf(command);
        const sender = await suite.createSenderContext({
            recipientPublicKey: await suite.kem.deserializePublicKey(bytes(command.public)),
            info: bytes(command.info),
        });
        const sealed = [];
        for (const [aad, plaintext] of command.messages) {
            sealed.push(hex(await sender.seal(bytes(plaintext), bytes(aad))));
        }
        return { enc: hex(sender.enc), sealed, exported: hex(await sender.export(bytes(command.label), 32)) };
    },
    async open(command) {
        const suite = suiteOf(command);
        const recipient = await suite.createRecipientContext({
            recipientKey: await suite.kem.deserializePrivateKey(bytes(command.private)),
            enc: bytes(command.enc),
            info: bytes(command.info),
        });
        const opened = [];
        for (const [aad, ciphertext] of command.messages) {
            opened.push(hex(await recipient.open(bytes(ciphertext), bytes(aad))));
        }
        return { opened, exported: hex(await recipient.export(bytes(command.label), 32)) };
    },
};

for await (const line of createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    let result;
    try {
        result = await actions[command.do](command);
    } catch (error) {
        result = { error: String(error) };
    }
    process.stdout.write(JSON.stringify(result) + '\n');
}
