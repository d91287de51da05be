// The other side of test_privacypass.py: @cloudflare/privacypass-ts as client, issuer and origin.
// One JSON object a line in, one out: {"do": name, ...} → its result, or {"error": true}.
import { createInterface } from 'node:readline';
import { genericBatched, publicVerif, TOKEN_TYPES, AuthorizationHeader, WWWAuthenticateHeader } from '@cloudflare/privacypass-ts';

const { BlindRSAMode, Client, Issuer, Origin, TokenRequest, getPublicKeyBytes } = publicVerif;
const { BLIND_RSA } = TOKEN_TYPES;
const hex = (bytes) => Buffer.from(bytes).toString('hex');
const bytes = (text) => new Uint8Array(Buffer.from(text, 'hex'));
const state = {};

const actions = {
    // Their client, our issuer and origin.
    async request({ header }) {
        const [offer] = WWWAuthenticateHeader.parse(header);
        state.client = new Client(BlindRSAMode.PSS);
        const request = await state.client.createTokenRequest(offer.challenge, offer.tokenKey);
        return { request: hex(request.serialize()) };
    },
    async finalize({ response }) {
        const token = await state.client.finalize(state.client.deserializeTokenResponse(bytes(response)));
        const header = new AuthorizationHeader(token);
        return { token: hex(token.serialize()), quoted: header.toString(true), bare: header.toString() };
    },
    // Our client, their issuer and origin.
    async offer({ issuer, origin }) {
        state.keys = await Issuer.generateKey(BlindRSAMode.PSS, {
            modulusLength: 2048,
            publicExponent: new Uint8Array([1, 0, 1]),
        });
        state.issuer = new Issuer(BlindRSAMode.PSS, issuer, state.keys.privateKey, state.keys.publicKey);
        state.origin = new Origin(BlindRSAMode.PSS, [origin]);
        const challenge = state.origin.createTokenChallenge(issuer, new Uint8Array(0));
        const key = await getPublicKeyBytes(state.keys.publicKey);
        return {
            header: new WWWAuthenticateHeader(challenge, key, 10).toString(true),
            key: hex(key),
            keyId: hex(await state.issuer.tokenKeyID()),
            challenge: hex(challenge.serialize()),
        };
    },
    async issue({ request }) {
        const response = await state.issuer.issue(TokenRequest.deserialize(BLIND_RSA, bytes(request)));
        return { response: hex(response.serialize()) };
    },
    // Several requests in one.
    async requests({ header, count }) {
        const [offer] = WWWAuthenticateHeader.parse(header);
        state.clients = Array.from({ length: Number(count) }, () => new Client(BlindRSAMode.PSS));
        const requests = [];
        for (const client of state.clients) {
            requests.push(new genericBatched.TokenRequest(await client.createTokenRequest(offer.challenge, offer.tokenKey)));
        }
        return { request: hex(new genericBatched.Client().createTokenRequest(requests).serialize()) };
    },
    async finalizeAll({ response }) {
        const { tokenResponses } = new genericBatched.Client().deserializeTokenResponse(bytes(response));
        const tokens = [];
        for (const [number, client] of state.clients.entries()) {
            tokens.push(hex((await client.finalize(tokenResponses[number].tokenResponse)).serialize()));
        }
        return { tokens };
    },
    async issueAll({ request }) {
        const issuer = new genericBatched.Issuer(state.issuer);
        const response = await issuer.issue(genericBatched.BatchedTokenRequest.deserialize(bytes(request)));
        return { response: hex(response.serialize()) };
    },
    async redeem({ header }) {
        const [{ token }] = AuthorizationHeader.parse(BLIND_RSA, header);
        return { valid: await state.origin.verify(token, state.keys.publicKey) };
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
