// The Node SDK; the address and the key come from OPENAI_BASE_URL and OPENAI_API_KEY.
import OpenAI from 'openai';

const client = new OpenAI();
const model = (await client.models.list()).data[0].id;
const stream = await client.chat.completions.create({
  model,
  messages: [{ role: 'user', content: 'Hello! What are you?' }],
  temperature: 0,
  max_tokens: 120,
  stream: true,
});
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? '');
process.stdout.write('\n');
