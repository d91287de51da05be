// The other side of test_voprf.py: @cloudflare/voprf-ts as client and server of VOPRF(ristretto255, SHA-512), and the
// authentication scheme of @cloudflare/privacypass-ts, which issues no tokens of type 5 but reads and writes any type.
// One JSON object a line in, one out: {"do": name, ...} → its result, or {"error": …}.
import { createInterface } from 'node:readline';
import { AuthorizationHeader, WWWAuthenticateHeader } from '@cloudflare/privacypass-ts';
import voprf from '@cloudflare/voprf-ts';
import { CryptoNoble } from '@cloudflare/voprf-ts/crypto-noble';

const { Evaluation, EvaluationRequest, Oprf, VOPRFClient, VOPRFServer, generatePublicKey, randomPrivateKey } = voprf;
const SUITE = Oprf.Suite.RISTRETTO255_SHA512;
const TYPE_5 = { value: 5, name: 'VOPRF (ristretto255, SHA-512)', publicVerifiable: false, Nk: 64, Nid: 32 };
const group = Oprf.getGroup(SUITE, CryptoNoble);
const hex = (bytes) => Buffer.from(bytes).toString('hex');
const bytes = (text) => new Uint8Array(Buffer.from(text, 'hex'));
const element = (text) => group.desElt(bytes(text));
const state = {};

const actions = {
    async key({ secret }) {
        const key = secret ? bytes(secret) : await randomPrivateKey(SUITE, CryptoNoble);
        state.server = new VOPRFServer(SUITE, key, CryptoNoble);
        return { public: hex(generatePublicKey(SUITE, key, CryptoNoble)), secret: hex(key) };
    },
    async blind({ key, inputs }) {
        state.client = new VOPRFClient(SUITE, bytes(key), CryptoNoble);
        const [data, request] = await state.client.blind(inputs.map(bytes));
        state.data = data;
        return { blinded: request.blinded.map((each) => hex(each.serialize())) };
    },
    async evaluate({ blinded }) {
        const request = new EvaluationRequest(blinded.map(element));
        const evaluation = await state.server.blindEvaluate(request);
        return {
            evaluated: evaluation.evaluated.map((each) => hex(each.serialize())),
            proof: hex(evaluation.proof.serialize()),
        };
    },
    async finalize({ evaluated, proof }) {
        // As on the wire of voprf-ts: a count of 16 bits, the elements, a flag, the proof.
        const count = Buffer.alloc(2);
        count.writeUInt16BE(evaluated.length);
        const mode = Buffer.from([Oprf.Mode.VOPRF]);
        const whole = Buffer.concat([count, ...evaluated.map(bytes), mode, bytes(proof)]);
        const evaluation = Evaluation.deserialize(SUITE, new Uint8Array(whole), CryptoNoble);
        return { outputs: (await state.client.finalize(state.data, evaluation)).map(hex) };
    },
    async output({ inputs }) {
        return { outputs: await Promise.all(inputs.map(async (input) => hex(await state.server.evaluate(bytes(input))))) };
    },
    async offers({ header }) {
        return {
            offers: WWWAuthenticateHeader.parse(header).map(({ challenge, tokenKey }) => ({
                type: challenge.tokenType,
                issuer: challenge.issuerName,
                origins: challenge.originInfo,
                challenge: hex(challenge.serialize()),
                key: hex(tokenKey),
            })),
        };
    },
    async token({ header }) {
        const [{ token }] = AuthorizationHeader.parse(TYPE_5, header);
        const { nonce, challengeDigest, tokenKeyId } = token.authInput;
        return {
            nonce: hex(nonce),
            digest: hex(challengeDigest),
            keyId: hex(tokenKeyId),
            authenticator: hex(token.authenticator),
            again: hex(token.serialize()),
            header: new AuthorizationHeader(token).toString(true),
        };
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
