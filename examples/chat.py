"""Two turns with the official SDK; the address and the key come from OPENAI_BASE_URL and OPENAI_API_KEY."""

from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

client = OpenAI()
model = client.models.list().data[0].id
messages: list[ChatCompletionMessageParam] = []

for question in ("Hello! What are you?", "What is a KT quant?"):
    messages.append({"role": "user", "content": question})
    print(f"> {question}")
    answer = ""
    for chunk in client.chat.completions.create(
        model=model, messages=messages, temperature=0, max_tokens=120, stream=True
    ):
        piece = chunk.choices[0].delta.content or ""
        print(piece, end="", flush=True)
        answer += piece
    print()
    messages.append({"role": "assistant", "content": answer})
