// Sends one delivery by each library of this file to the gateway at `url`, signed with the keys of `keys`.
//
//   node send.mjs '{"url": "http://127.0.0.1:8443", "keys": {"github": "…", …}}'
//
// Prints a JSON object: the status and the body that each was answered.

import { createRequire } from "node:module";
import { sign } from "@octokit/webhooks-methods";

// These are CommonJS, some of them without names that an import would find.
const require = createRequire(import.meta.url);
const { encrypt, getSignature } = require("@wecom/crypto");
const { CloudEvent, HTTP } = require("cloudevents");
const Stripe = require("stripe");
const { Webhook } = require("svix");

const { url, keys } = JSON.parse(process.argv[2]);

/** Posts to a path of the gateway. */
async function post(path, headers, body) {
  const answer = await fetch(url + path, { method: "POST", headers, body });
  return { status: answer.status, body: await answer.text() };
}

const senders = {
  async github(key) {
    const body = JSON.stringify({ action: "opened", issue: { title: "订单 #1042", number: 7 } });
    const headers = { "content-type": "application/json", "x-github-event": "issues", "x-github-delivery": "72d3162e" };
    return post("/github", { ...headers, "x-hub-signature-256": await sign(key, body) }, body);
  },
  async stripe(key) {
    const payload = JSON.stringify({ id: "evt_1", object: "event", type: "charge.succeeded" }, null, 2);
    const header = new Stripe("sk_test_none").webhooks.generateTestHeaderString({ payload, secret: key });
    return post("/stripe", { "stripe-signature": header }, payload);
  },
  async svix(key) {
    const [id, sent, body] = ["msg_1", new Date(), '{"type":"invoice.paid","note":"é 发票"}'];
    const signature = new Webhook(key).sign(id, sent, body);
    const seconds = Math.floor(sent.getTime() / 1000).toString();
    return post("/svix", { "svix-id": id, "svix-timestamp": seconds, "svix-signature": signature }, body);
  },
  async wecom({ token, aes, corp }) {
    const message = "<xml><MsgType>text</MsgType><Content>通过</Content><MsgId>1042</MsgId></xml>";
    const encrypted = encrypt(aes, message, corp);
    const [timestamp, nonce] = [Math.floor(Date.now() / 1000).toString(), "1372623149"];
    const query = new URLSearchParams({ msg_signature: getSignature(token, timestamp, nonce, encrypted), timestamp, nonce });
    const body = `<xml><ToUserName>${corp}</ToUserName><AgentID>1</AgentID><Encrypt>${encrypted}</Encrypt></xml>`;
    return post(`/wecom?${query}`, { "content-type": "text/xml" }, body);
  },
  async cloudevents(key) {
    const event = new CloudEvent({ id: "a-1", type: "order.paid", source: "/topics/orders", data: { n: 21 } });
    const { headers, body } = HTTP.structured(event);
    return post(`/events?code=${encodeURIComponent(key)}`, headers, body);
  },
};

const answers = {};
for (const [name, send] of Object.entries(senders)) {
  answers[name] = await send(keys[name]);
}
console.log(JSON.stringify(answers));
