// The official Node SDK against BASE_URL: an agent's loop, parsed answers, the stream helper, n, logprobs.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none", maxRetries: 0 });
const model = "scripted";
const user = [{ role: "user", content: "What is the weather?" }];
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };

const asked = [];
const runner = client.chat.completions.runTools({
  model,
  messages: user,
  tools: [
    {
      type: "function",
      function: {
        name: "get_weather",
        parameters,
        parse: JSON.parse,
        function: ({ city }) => {
          asked.push(city);
          return "21 degrees";
        },
      },
    },
  ],
});
assert.equal(await runner.finalContent(), "It says: 21 degrees.");
assert.deepEqual(asked, ["Rome"]);

const Weather = z.object({ sky: z.enum(["clear", "grey"]), degrees: z.union([z.literal(20), z.literal(21)]) });
const parsed = await client.chat.completions.parse({
  model,
  messages: user,
  response_format: zodResponseFormat(Weather, "weather"),
});
Weather.parse(parsed.choices[0].message.parsed);

const tools = [{ type: "function", function: { name: "get_weather", parameters } }];
const stream = client.chat.completions.stream({ model, messages: user, tools });
let pieces = 0;
for await (const chunk of stream) pieces += chunk.choices[0]?.delta?.tool_calls ? 1 : 0;
const final = await stream.finalChatCompletion();
assert.equal(final.choices[0].finish_reason, "tool_calls");
assert.deepEqual(JSON.parse(final.choices[0].message.tool_calls[0].function.arguments), { city: "Rome" });
assert.ok(pieces >= 2);

const several = await client.chat.completions.create({ model, messages: user, n: 2, logprobs: true, top_logprobs: 2 });
assert.equal(several.choices.length, 2);
assert.equal(several.choices[1].logprobs.content[0].top_logprobs.length, 2);

await assert.rejects(client.chat.completions.create({ model: "other", messages: user }), OpenAI.NotFoundError);
await assert.rejects(client.chat.completions.create({ model, messages: user, temperature: -1 }), OpenAI.BadRequestError);
console.log("ok");
