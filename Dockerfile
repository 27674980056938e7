# hat-sr serve, on the CPU. See docs/serving.md.
FROM python:3.11-slim
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
# torch from its own index: the usual one would bring several GB of CUDA.
RUN pip install --no-cache-dir --constraint constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu \
    'torch==2.13.0+cpu' '.[serve]' \
    && useradd --create-home hat && mkdir /queue && chown hat /queue
USER hat
VOLUME /queue
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz')"]
ENTRYPOINT ["hat-sr", "serve", "--host", "0.0.0.0", "--folder", "/queue"]
