#!/bin/sh
# A question with curl, its answer as the server streams it: one `data: {...}` event a token, then `data: [DONE]`.
set -eu
curl -sN --fail-with-body "${OPENAI_BASE_URL:-http://127.0.0.1:8000/v1}/chat/completions" \
    -H "authorization: Bearer ${OPENAI_API_KEY:-none}" \
    -H 'content-type: application/json' \
    -d '{"messages": [{"role": "user", "content": "Hello! What are you?"}], "temperature": 0, "stream": true}'
