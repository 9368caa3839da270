"""What to paste while the demo runs: one call with curl, which shows the headers and so the cost, and one with OpenAI's SDK.
Complete, so that nothing need be exported."""

QUESTION = "What is a jeton?"


def curl(url: str, api_key: str) -> str:
    return (
        f"curl -i {url}/v1/chat/completions \\\n"
        f"  -H 'Authorization: Bearer {api_key}' \\\n"
        "  -H 'Content-Type: application/json' \\\n"
        '  -d \'{"model": "auto",\n'
        f'       "messages": [{{"role": "user", "content": "{QUESTION}"}}]}}\''
    )


def python(url: str, api_key: str) -> str:
    return (
        "from openai import OpenAI\n"
        "client = OpenAI(\n"
        f'    base_url="{url}/v1",\n'
        f'    api_key="{api_key}",\n'
        ")\n"
        "answer = client.chat.completions.create(\n"
        '    model="auto",\n'
        f'    messages=[{{"role": "user", "content": "{QUESTION}"}}],\n'
        ")\n"
        "print(answer.choices[0].message.content)"
    )
