// The other side of test_bhttp.py: bhttp-js. Bytes travel in hex.
import { createInterface } from 'node:readline';
import { BHttpDecoder, BHttpEncoder } from 'bhttp-js';

const hex = (bytes) => Buffer.from(bytes).toString('hex');
const bytes = (text) => new Uint8Array(Buffer.from(text, 'hex'));
const decoder = new BHttpDecoder();
const encoder = new BHttpEncoder();

const actions = {
    async decodeRequest({ data }) {
        const request = decoder.decodeRequest(bytes(data));
        return {
            method: request.method,
            url: request.url,
            headers: [...request.headers],
            content: hex(await request.arrayBuffer()),
        };
    },
    async decodeResponse({ data }) {
        const response = decoder.decodeResponse(bytes(data));
        return {
            status: response.status,
            headers: [...response.headers],
            content: hex(await response.arrayBuffer()),
        };
    },
    async encodeRequest({ method, url, headers, content }) {
        const body = content ? bytes(content) : undefined;
        return { data: hex(await encoder.encodeRequest(new Request(url, { method, headers, body }))) };
    },
    async encodeResponse({ status, headers, content }) {
        return { data: hex(await encoder.encodeResponse(new Response(bytes(content), { status, headers }))) };
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
