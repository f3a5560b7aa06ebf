// Constrained answers, tools and log probabilities through the official Node client; see client.test.mjs.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';

const { BASE_URL: baseURL, API_KEY: apiKey, CHAT_MODEL: model } = process.env;
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 120_000 });
const messages = [{ role: 'user', content: 'What is the weather in Paris?' }];
const parameters = {
  type: 'object',
  properties: { city: { type: 'string', pattern: '^[A-Z][a-z]{1,12}$' }, unit: { enum: ['celsius', 'fahrenheit'] } },
  required: ['city', 'unit'],
  additionalProperties: false,
};
const tools = [
  { type: 'function', function: { name: 'get_weather', description: 'The weather of a city.', parameters } },
  { type: 'function', function: { name: 'get_time', parameters: { type: 'object', properties: {}, additionalProperties: false } } },
];
const named = { type: 'function', function: { name: 'get_weather' } };

const hold = (text) => {
  const value = JSON.parse(text);
  assert.deepEqual(Object.keys(value), ['city', 'unit']);
  assert.match(value.city, /^[A-Z][a-z]{1,12}$/);
  assert.ok(['celsius', 'fahrenheit'].includes(value.unit));
};

test('a schema', async () => {
  const answer = await client.chat.completions.create({
    model, messages, max_tokens: 100, response_format: { type: 'json_schema', json_schema: { name: 'place', schema: parameters, strict: true } },
  });
  assert.equal(answer.choices[0].finish_reason, 'stop');
  hold(answer.choices[0].message.content);
});

test('a named tool', async () => {
  const answer = await client.chat.completions.create({ model, messages, max_tokens: 100, tools, tool_choice: named });
  const [choice] = answer.choices;
  assert.equal(choice.finish_reason, 'tool_calls');
  assert.equal(choice.message.content, null);
  assert.equal(choice.message.tool_calls.length, 1);
  const [call] = choice.message.tool_calls;
  assert.match(call.id, /^call_/);
  assert.equal(call.type, 'function');
  assert.equal(call.function.name, 'get_weather');
  hold(call.function.arguments);
});

test('a required tool, streamed and whole', async () => {
  const options = { model, messages, max_tokens: 200, tools, tool_choice: 'required', temperature: 0 };
  const whole = await client.chat.completions.create(options);
  const stream = client.chat.completions.stream(options);
  const final = await stream.finalChatCompletion();
  const plain = (answer) => answer.choices[0].message.tool_calls.map((call) => [call.function.name, call.function.arguments]);
  assert.deepEqual(plain(final), plain(whole));
  assert.equal(final.choices[0].finish_reason, whole.choices[0].finish_reason);
});

test('a tool and its result', async () => {
  const first = await client.chat.completions.create({ model, messages, max_tokens: 100, tools, tool_choice: named });
  const { message } = first.choices[0];
  const result = { role: 'tool', tool_call_id: message.tool_calls[0].id, content: '21 degrees and sunny' };
  const answer = await client.chat.completions.create({
    model, messages: [...messages, message, result], max_tokens: 20, tools, tool_choice: 'none',
  });
  assert.ok(answer.choices[0].message.content.length > 0);
  assert.equal(answer.choices[0].message.tool_calls, undefined);
});

test('the older functions', async () => {
  const functions = [{ name: 'get_weather', parameters }];
  const answer = await client.chat.completions.create({
    model, messages, max_tokens: 100, functions, function_call: { name: 'get_weather' },
  });
  assert.equal(answer.choices[0].finish_reason, 'function_call');
  assert.equal(answer.choices[0].message.function_call.name, 'get_weather');
  hold(answer.choices[0].message.function_call.arguments);
});

test('log probabilities', async () => {
  const answer = await client.chat.completions.create({ model, messages, max_tokens: 5, logprobs: true, top_logprobs: 3 });
  const entries = answer.choices[0].logprobs.content;
  assert.equal(entries.map((entry) => entry.token).join(''), answer.choices[0].message.content);
  for (const entry of entries) {
    assert.equal(entry.top_logprobs.length, 3);
    assert.ok(entry.top_logprobs.reduce((sum, rival) => sum + Math.exp(rival.logprob), 0) <= 1.0001);
  }
});

test('log probabilities of a prompt', async () => {
  const prompt = 'Once upon a time';
  const answer = await client.completions.create({ model, prompt, echo: true, logprobs: 1, max_tokens: 0 });
  const { logprobs, text } = answer.choices[0];
  assert.equal(text, prompt);
  assert.equal(logprobs.token_logprobs[0], null);
  assert.equal(logprobs.tokens.join(''), prompt);
  assert.ok(logprobs.token_logprobs.slice(1).every((value) => value < 0));
});
