// What a user of OpenAI's Node SDK does, with nothing set but OPENAI_BASE_URL and OPENAI_API_KEY. The same journeys as in
// ../journeys/test_openai.py, over emulated backends and over a real vLLM.

import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const client = new OpenAI();
const model = "chat-small";
const messages = [{ role: "user", content: "What is the weather in Paris?" }];
const weather = {
  type: "object",
  properties: { city: { type: "string", enum: ["Paris", "Rome"] }, celsius: { type: "boolean" } },
  required: ["city", "celsius"],
  additionalProperties: false,
};
const tools = [
  { type: "function", function: { name: "get_weather", description: "Weather now", parameters: weather, strict: true } },
];

function assertWeather(text) {
  const value = JSON.parse(text);
  assert.deepEqual(Object.keys(value).sort(), ["celsius", "city"]);
  assert.ok(["Paris", "Rome"].includes(value.city));
  assert.equal(typeof value.celsius, "boolean");
}

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

test("aliases and models are listed", async () => {
  const names = (await collect(client.models.list())).map((listed) => listed.id);
  for (const name of ["auto", "chat-small", "chat-large"]) assert.ok(names.includes(name), name);
});

for (const asked of ["auto", "chat-small", "chat-large"]) {
  test(`a chat with ${asked} is answered and its tokens add up`, async () => {
    const answer = await client.chat.completions.create({ model: asked, messages, max_tokens: 16, temperature: 0 });
    assert.ok(answer.choices[0].message.content);
    assert.ok(answer.usage.prompt_tokens > 0);
    assert.equal(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens);
  });
}

test("an answer says where it came from and what it cost", async () => {
  const { data, response } = await client.chat.completions.create({ model, messages, max_tokens: 8 }).withResponse();
  assert.equal(response.headers.get("x-jeton-tier"), "small");
  assert.equal(response.headers.get("x-jeton-model"), data.model);
  assert.ok(Number(response.headers.get("x-jeton-cost-usd")) > 0);
  assert.ok(data._request_id);
});

test("a stream says what the whole answer says", async () => {
  const body = { model, messages, max_tokens: 24, temperature: 0, seed: 7 };
  const whole = (await client.chat.completions.create(body)).choices[0];
  const chunks = await collect(await client.chat.completions.create({ ...body, stream: true }));
  assert.equal(chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join(""), whole.message.content);
  assert.equal(chunks.at(-1).choices[0].finish_reason, whole.finish_reason);
});

test("a stream ends with usage and cost when asked", async () => {
  const stream = await client.chat.completions.create({
    model, messages, max_tokens: 8, stream: true, stream_options: { include_usage: true },
  });
  const last = (await collect(stream)).at(-1);
  assert.deepEqual(last.choices, []);
  assert.equal(last.usage.total_tokens, last.usage.prompt_tokens + last.usage.completion_tokens);
  assert.ok(last.jeton_cost);
});

test("a tool is called with arguments of its schema", async () => {
  const answer = await client.chat.completions.create({
    model, messages, tools, tool_choice: "required", max_tokens: 400, temperature: 0,
  });
  for (const call of answer.choices[0].message.tool_calls) {
    assert.equal(call.function.name, "get_weather");
    assertWeather(call.function.arguments);
  }
});

test("an answer keeps to a JSON schema", async () => {
  const answer = await client.chat.completions.create({
    model, messages, max_tokens: 400, temperature: 0,
    response_format: { type: "json_schema", json_schema: { name: "weather", strict: true, schema: weather } },
  });
  assertWeather(answer.choices[0].message.content);
});

test("the SDK's own stream helper reaches the final completion", async () => {
  const stream = client.chat.completions.stream({ model, messages, max_tokens: 8 });
  assert.ok((await stream.finalChatCompletion()).choices[0].message.content);
});

test("a response is answered", async () => {
  const response = await client.responses.create({ model, input: "Say something.", max_output_tokens: 16, temperature: 0 });
  assert.ok(response.output_text);
});

test("embeddings come one for each text", async () => {
  const answer = await client.embeddings.create({ model: "embed", input: ["one", "one and two"] });
  assert.equal(answer.data.length, 2);
  assert.equal(answer.data[0].embedding.length, answer.data[1].embedding.length);
});

test("an unknown key is refused", async () => {
  const stranger = new OpenAI({ apiKey: "sk-nobody" });
  await assert.rejects(stranger.chat.completions.create({ model, messages }), OpenAI.AuthenticationError);
});

test("an unknown model is refused with the nearest names", async () => {
  await assert.rejects(
    client.chat.completions.create({ model: "chat-smal", messages }),
    (refusal) => refusal instanceof OpenAI.NotFoundError && /chat-small/.test(refusal.message),
  );
});

test("a wrong body is refused with the name of what is wrong", async () => {
  await assert.rejects(
    client.chat.completions.create({ model, messages, n: 1e9 }),
    (refusal) => refusal instanceof OpenAI.BadRequestError && refusal.param === "n",
  );
});

test("a stream may be left early", async () => {
  const stream = await client.chat.completions.create({ model, messages, max_tokens: 400, stream: true });
  for await (const chunk of stream) {
    assert.ok(chunk.choices.length);
    break;
  }
  assert.ok(stream.controller.signal.aborted);
  assert.ok((await client.chat.completions.create({ model, messages, max_tokens: 4 })).choices[0].message.content);
});
