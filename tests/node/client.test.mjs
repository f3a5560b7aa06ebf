// The official Node client against a running server: BASE_URL, API_KEY, CHAT_MODEL and EMBEDDING_MODEL come from the
// environment. Run by tests/integration/test_node_client.py.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';

const { BASE_URL: baseURL, API_KEY: apiKey, CHAT_MODEL: model, EMBEDDING_MODEL: embeddingModel, SLASHED } = process.env;
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 120_000 });
const messages = [{ role: 'user', content: 'Tell me a long story about a fox.' }];

test('chat', async () => {
  const answer = await client.chat.completions.create({ model, messages, max_tokens: 4 });
  assert.match(answer.id, /^chatcmpl-/);
  assert.match(answer._request_id, /^req_/);
  assert.equal(answer.choices[0].message.role, 'assistant');
  assert.equal(answer.choices[0].finish_reason, 'length');
  assert.equal(answer.usage.completion_tokens, 4);
});

test('several choices', async () => {
  const answer = await client.chat.completions.create({ model, messages, max_tokens: 2, n: 3 });
  assert.deepEqual(answer.choices.map((choice) => choice.index), [0, 1, 2]);
  assert.equal(answer.usage.completion_tokens, 6);
});

test('streaming', async () => {
  const stream = await client.chat.completions.create({
    model, messages, max_tokens: 6, stream: true, stream_options: { include_usage: true },
  });
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  const last = chunks.pop();
  assert.deepEqual(last.choices, []);
  assert.equal(last.usage.completion_tokens, 6);
  assert.equal(chunks[0].choices[0].delta.role, 'assistant');
  assert.equal(chunks.at(-1).choices[0].finish_reason, 'length');
  assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1);
  assert.ok(chunks.map((chunk) => chunk.choices[0].delta.content ?? '').join('').length > 0);
});

test('the stream helper', async () => {
  const stream = client.chat.completions.stream({ model, messages, max_tokens: 6 });
  let text = '';
  stream.on('content', (delta) => { text += delta; });
  const final = await stream.finalChatCompletion();
  assert.equal(final.choices[0].message.content, text);
});

test('leaving a stream early', async () => {
  const stream = await client.chat.completions.create({ model, messages, max_tokens: 500, stream: true });
  for await (const chunk of stream) {
    assert.ok(chunk.id);
    break;
  }
});

test('completions', async () => {
  const answer = await client.completions.create({ model, prompt: ['1, 2,', 'a, b,'], max_tokens: 3 });
  assert.equal(answer.object, 'text_completion');
  assert.deepEqual(answer.choices.map((choice) => choice.index), [0, 1]);
});

test('embeddings', async () => {
  // without a format the client asks for base64 and decodes it itself
  const decoded = await client.embeddings.create({ model: embeddingModel, input: ['one', 'two'] });
  const plain = await client.embeddings.create({ model: embeddingModel, input: ['one', 'two'], encoding_format: 'float' });
  assert.equal(decoded.data.length, 2);
  assert.equal(decoded.data[0].embedding.length, 384);
  for (const [index, value] of decoded.data[1].embedding.entries()) {
    assert.ok(Math.abs(value - plain.data[1].embedding[index]) < 1e-6);
  }
  const length = Math.hypot(...decoded.data[0].embedding);
  assert.ok(Math.abs(length - 1) < 1e-4);
});

test('models', async () => {
  const names = [];
  for await (const each of client.models.list()) names.push(each.id);
  assert.ok(names.includes(model) && names.includes(embeddingModel));
  assert.equal((await client.models.retrieve(SLASHED)).id, SLASHED);
  await assert.rejects(client.models.delete(model), OpenAI.PermissionDeniedError);
});

test('errors', async () => {
  const chat = (options) => client.chat.completions.create({ model, messages, max_tokens: 1, ...options });
  await assert.rejects(chat({ temperature: 3 }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.status, 400);
    assert.equal(error.code, 'decimal_above_max_value');
    assert.equal(error.param, 'temperature');
    assert.equal(error.type, 'invalid_request_error');
    assert.match(error.requestID, /^req_/);
    return true;
  });
  await assert.rejects(chat({ model: 'nobody' }), OpenAI.NotFoundError);
  const stranger = new OpenAI({ baseURL, apiKey: 'nx-wrong', maxRetries: 0 });
  await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
});
