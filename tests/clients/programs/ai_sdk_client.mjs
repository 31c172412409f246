// The AI SDK against BASE_URL: texts, streams, tools in a loop, objects.
import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const provider = createOpenAICompatible({
  name: "espalier",
  baseURL: process.argv[2],
  apiKey: "none",
  supportsStructuredOutputs: true,
});
const model = provider("scripted");
const hello = "Say hello, no tools.";

const { text, usage } = await generateText({ model, prompt: hello, maxRetries: 0 });
assert.equal(text, "Hello from the script.");
assert.ok(usage.outputTokens > 0);

const streamed = streamText({ model, prompt: hello, maxRetries: 0 });
let joined = "";
for await (const piece of streamed.textStream) joined += piece;
assert.equal(joined, text);

const tools = {
  get_weather: tool({
    description: "Of a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => `21 degrees in ${city}`,
  }),
};
const agent = { model, tools, prompt: "What is the weather?", stopWhen: stepCountIs(3), maxRetries: 0 };
const told = await generateText(agent);
assert.equal(told.text, "It says: 21 degrees in Rome.");
const live = streamText(agent);
assert.equal(await live.text, "It says: 21 degrees in Rome.");
const steps = await live.steps;
assert.equal(steps[0].toolCalls[0].toolName, "get_weather");

const schema = z.object({ sky: z.enum(["clear", "grey"]), near: z.array(z.enum(["sea", "hill"])).max(2) });
const { object } = await generateObject({ model, schema, prompt: "The weather?", maxRetries: 0 });
schema.parse(object);
console.log("ok");
