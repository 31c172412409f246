"""A LangChain chain over the server; the address and the key come from OPENAI_BASE_URL and OPENAI_API_KEY."""

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from openai import OpenAI

model = ChatOpenAI(model=OpenAI().models.list().data[0].id, temperature=0, max_completion_tokens=120)
prompt = ChatPromptTemplate.from_messages([("human", "{question}")])
chain = prompt | model | StrOutputParser()

for piece in chain.stream({"question": "How do I load my own model?"}):
    print(piece, end="", flush=True)
print()
